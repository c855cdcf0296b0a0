//! `localhub completions`.

use clap_complete::{Shell, generate};

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;

/// Print a script that completes commands in a shell
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub completions bash\n  localhub completions fish")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    generate(args.shell, &mut super::command(), "localhub", &mut script);
    let mut out = Output::new(globals.json);
    out.bytes(&script)?;
    out.flush()?;
    Ok(Exit::Done)
}
