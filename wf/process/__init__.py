"""What every supervised process uses: its role, its status page, its log, its paths."""
