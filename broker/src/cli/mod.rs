//! The command line, one verb a file. What verbs share is in [`shared`].
//!
//! All verbs but `serve` and `demo` are ordinary clients of the broker: they come by the same
//! socket as everybody and have no power over its speed. Parsing does nothing, doing parses
//! nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use shared::exit::{self, Exit};

mod bench;
mod broadcast;
mod channel;
mod channels;
mod client;
mod clients;
mod closed;
mod completions;
mod config;
mod demo;
mod doctor;
mod keep;
mod kick;
mod publish;
mod request;
mod send;
mod serve;
mod serve_with;
mod services;
mod sessions;
mod shared;
mod state;
mod status;
mod stop;
mod sub;
mod watch;

/// The message hub for the apps on one machine.
#[derive(Debug, Parser)]
#[command(
    name = "localhub",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    before_help = "Examples:\n  localhub serve\n  localhub clients",
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 usage, 3 no broker is running.\n\
                  `localhub VERB --help` has examples of each."
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Args, Clone, Debug, Default)]
struct Globals {
    /// Where the broker listens [default: $LOCALHUB_ENDPOINT, the configuration, a private place]
    #[arg(long, global = true, value_name = "PATH", help_heading = "Everywhere")]
    endpoint: Option<String>,
    /// The configuration file [default: $LOCALHUB_CONFIG, or as `localhub config` says]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Everywhere")]
    config: Option<PathBuf>,
    /// Answer in JSON: one object, or one a line
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Serve(serve::Args),
    Stop(stop::Args),
    Status(status::Args),
    Clients(clients::Args),
    Client(client::Args),
    Sessions(sessions::Args),
    Closed(closed::Args),
    Channels(channels::Args),
    Channel(channel::Args),
    State(state::Args),
    Services(services::Args),
    Watch(watch::Args),
    Sub(sub::Args),
    Pub(publish::Args),
    Broadcast(broadcast::Args),
    Send(send::Args),
    Request(request::Args),
    ServeWith(serve_with::Args),
    Keep(keep::Args),
    Kick(kick::Args),
    Config(config::Args),
    Doctor(doctor::Args),
    #[command(before_help = "Examples:\n  localhub demo\n  localhub demo --seconds 30")]
    Demo(demo::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let done = match parsed {
        Ok(cli) => cli.run(),
        Err(error) => return exit::usage(&error).into(),
    };
    done.unwrap_or_else(|error| exit::report(&error).into())
}

/// The command with all its verbs, which help has in the order above.
fn command() -> clap::Command {
    Cli::command().max_term_width(100)
}

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        let globals = &self.globals;
        let exit = match self.verb {
            Verb::Bench(args) => bench::run(args, globals),
            Verb::Broadcast(args) => broadcast::run(args, globals),
            Verb::Channel(args) => channel::run(args, globals),
            Verb::Channels(args) => channels::run(args, globals),
            Verb::Client(args) => client::run(args, globals),
            Verb::Clients(args) => clients::run(args, globals),
            Verb::Closed(args) => closed::run(args, globals),
            Verb::Completions(args) => completions::run(args, globals),
            Verb::Config(args) => config::run(args, globals),
            Verb::Demo(args) => {
                return shared::runtime(0)?.block_on(demo::run(args, globals.json));
            }
            Verb::Doctor(args) => doctor::run(args, globals),
            Verb::Keep(args) => keep::run(args, globals),
            Verb::Kick(args) => kick::run(args, globals),
            Verb::Pub(args) => publish::run(args, globals),
            Verb::Request(args) => request::run(args, globals),
            Verb::Send(args) => send::run(args, globals),
            Verb::Serve(args) => serve::run(args, globals),
            Verb::ServeWith(args) => serve_with::run(args, globals),
            Verb::Services(args) => services::run(args, globals),
            Verb::State(args) => state::run(args, globals),
            Verb::Sessions(args) => sessions::run(args, globals),
            Verb::Status(args) => status::run(args, globals),
            Verb::Stop(args) => stop::run(args, globals),
            Verb::Sub(args) => sub::run(args, globals),
            Verb::Watch(args) => watch::run(args, globals),
        };
        exit.map(Exit::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_help_of_every_verb_opens_with_two_examples_that_parse() {
        let mut localhub = command();
        localhub.build();
        let verbs: Vec<_> = localhub.get_subcommands().cloned().collect();
        for mut verb in verbs.into_iter().chain([localhub]) {
            let name = verb.get_name().to_owned();
            let help = verb.render_help().to_string();
            let mut lines = help.lines();
            assert_eq!(lines.next(), Some("Examples:"), "{name}");
            let examples: Vec<_> = lines
                .by_ref()
                .map_while(|line| line.strip_prefix("  "))
                .collect();
            assert_eq!(examples.len(), 2, "{name}: {help}");
            for example in examples {
                let words = words(example);
                command()
                    .try_get_matches_from(&words)
                    .unwrap_or_else(|error| {
                        panic!("{example}: {error}");
                    });
                assert!(
                    name == "localhub" || words.contains(&name),
                    "{name}: {example}"
                );
            }
        }
    }

    #[test]
    fn every_verb_says_what_it_does_in_one_short_line() {
        for verb in command().get_subcommands() {
            let about = verb
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                (10..=72).contains(&about.len()),
                "{}: {about:?}",
                verb.get_name()
            );
            assert!(!about.ends_with('.'), "{}: {about:?}", verb.get_name());
        }
    }

    /// The words of the one `localhub` of an example, as a shell would take it apart.
    fn words(example: &str) -> Vec<String> {
        let command = example
            .split(" | ")
            .find(|part| part.starts_with("localhub"))
            .unwrap();
        let command = command.split(" > ").next().unwrap();
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in command.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                _ => words.last_mut().unwrap().push(c),
            }
        }
        words
    }
}
