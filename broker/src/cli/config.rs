//! `localhub config`.

use localhub::config::Config;
use localhub::paths;
use serde::Serialize;

use super::Globals;
use super::shared::exit::Exit;
use super::shared::output::Output;

/// Print the configuration: every key, its default, where it is set
///
/// What it prints is a valid configuration file. Flags come before the environment
/// (LOCALHUB_ENDPOINT, LOCALHUB_LOG), that before the file, that before defaults.
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub config\n  localhub config --config new.toml")]
pub(crate) struct Args {}

/// The configuration for programs.
#[derive(Serialize)]
struct Object<'a> {
    /// The file that was read.
    file: Option<String>,
    config: &'a Config,
}

pub(crate) fn run(_: Args, globals: &Globals) -> anyhow::Result<Exit> {
    let loaded = globals.load(None)?;
    let mut out = Output::new(globals.json);
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    if out.is_json() {
        out.object(&Object {
            file,
            config: &loaded.config,
        })?;
    } else {
        match file.map(|file| file.escape_debug().to_string()) {
            Some(file) => out.line(format_args!("# With what {file} says.\n"))?,
            None => {
                if let Some(usual) = paths::config_file() {
                    let usual = usual.display().to_string();
                    out.line(format_args!(
                        "# To change it, write what differs to {}.\n",
                        usual.escape_debug()
                    ))?;
                }
            }
        }
        out.bytes(loaded.to_toml().as_bytes())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
