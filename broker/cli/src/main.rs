//! `currant`: what people do with the jobs, queues, schedules and tokens of a broker.

mod arguments;
mod changes;
mod clock;
mod commands;
mod end;
mod filter;
mod payload;
mod printer;
mod retry;
mod shown;
mod values;

use std::process::ExitCode;

use clap::Parser;

use self::{
    arguments::Arguments,
    end::{End, Failure},
    printer::Printer,
};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Also --help and --version.
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::System("no runtime".to_owned(), error).report(),
    };
    match runtime.block_on(run(arguments)) {
        Ok(end) => end.code(),
        Err(failure) => failure.report(),
    }
}

async fn run(arguments: Arguments) -> Result<End, Failure> {
    let Arguments { connection, output, command } = arguments;
    command.run(&connection, &mut Printer::new(output)).await
}
