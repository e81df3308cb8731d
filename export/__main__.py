"""`python -m export` is `vit-export`."""

from .cli import main

if __name__ == "__main__":
    main()
