use std::process::ExitCode;

fn main() -> ExitCode {
    jouleplan::cli::run()
}
