from s2i_lib.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
