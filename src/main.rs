//! The `nanochat` program: parses arguments and hands over to the library.

fn main() -> std::process::ExitCode {
    nanochat::cli::main()
}
