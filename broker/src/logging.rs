//! The log: files of one day each, and warnings on stderr.
//!
//! Logging never stops the broker. Lines go through a bounded queue to a thread of their own; when
//! the disk or the terminal cannot keep up, or is full, lines are dropped and counted. Whatever a
//! client wrote, one event is one line: control characters are escaped.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, fs};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry};

use crate::config::LogConfig;
use crate::paths;

/// Lines that may wait for the disk or the terminal, each: a burst of a second, a few megabytes.
const WAITING_LINES_MAX: usize = 8_192;

/// The running log. What waits is written when this is dropped, for up to a second.
pub struct Logging {
    guards: Vec<WorkerGuard>,
    /// Lines that did not fit their queue.
    dropped: Vec<ErrorCounter>,
    /// Lines that the system did not take, such as those for a full disk.
    unwritten: Arc<AtomicU64>,
    folder: Option<PathBuf>,
}

impl Logging {
    /// Starts the log of this process.
    ///
    /// Whatever is wrong is in the second value, and the log goes on without it: without a file if
    /// the folder cannot be used, as it was if the process has a log already.
    pub fn start(config: &LogConfig) -> (Self, Option<LoggingError>) {
        let (subscriber, logging, error) = prepare(config);
        match tracing::subscriber::set_global_default(subscriber) {
            Ok(()) => (logging, error),
            Err(_) => (logging, Some(LoggingError::AlreadyStarted)),
        }
    }

    /// Counts the lines that were dropped since the start.
    pub fn lines_lost(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let (dropped, unwritten) = (self.dropped.clone(), self.unwritten.clone());
        Arc::new(move || {
            let dropped: usize = dropped.iter().map(ErrorCounter::dropped_lines).sum();
            dropped as u64 + unwritten.load(Ordering::Relaxed)
        })
    }

    /// Where the files are, if there are any.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }
}

impl fmt::Debug for Logging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logging")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Why there is no log file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// The program that the broker runs in has a log of its own.
    #[error("this process has a log already, which goes on")]
    AlreadyStarted,
    /// The folder does not exist and cannot be made.
    #[error("no log file: cannot create the folder {}", .folder.display())]
    Folder {
        /// Which one.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The level of the configuration is none; everything from `info` on is logged.
    #[error("{0}")]
    Level(LevelError),
    /// The user has no home, and no folder is configured.
    #[error("no log file: this user has no home (set log.directory)")]
    NoFolder,
    /// No file can be made in the folder.
    #[error("no log file: cannot write to the folder {}", .folder.display())]
    Open {
        /// Which one.
        folder: PathBuf,
        /// What the system said.
        source: InitError,
    },
}

/// Why a text does not say what to log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LevelError {
    /// It is not what `tracing_subscriber` reads.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// A word that stands alone is not a level. It would count as the name of a module.
    #[error("{word:?} is neither; levels are off, error, warn, info, debug, trace")]
    Unknown {
        /// Which one.
        word: String,
    },
}

/// Checks a text that says what to log, in the syntax of [`EnvFilter`].
///
/// # Errors
/// It does not say what to log.
pub fn check_level(text: &str) -> Result<(), LevelError> {
    filter(text).map(drop)
}

/// A text from elsewhere, fit for one line of a log or terminal: control characters and those
/// that change the direction of text or the line are escaped as in Rust.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_unsafe(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character can change what a reader believes to see.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200e}' | '\u{200f}' // marks of direction
            | '\u{2028}' | '\u{2029}' // separators of lines and paragraphs
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // embeddings, overrides, isolates
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}' // invisible
        )
}

fn filter(text: &str) -> Result<EnvFilter, LevelError> {
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.contains(['=', '[']))
    {
        // An empty text would be a level, too.
        if word.is_empty() || word.parse::<LevelFilter>().is_err() {
            return Err(LevelError::Unknown { word: word.into() });
        }
    }
    Ok(EnvFilter::builder().parse(text)?)
}

fn prepare(config: &LogConfig) -> (impl Subscriber + use<>, Logging, Option<LoggingError>) {
    let (filter, mut error) = match filter(&config.level) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(LoggingError::Level(error))),
    };
    let mut logging = Logging::empty();
    let files = match files(config) {
        Ok((folder, appender)) => {
            logging.folder = Some(folder);
            Some(layer(logging.writer(appender, "log-file")))
        }
        Err(problem) => {
            error.get_or_insert(problem);
            None
        }
    };
    let stderr = config.stderr.then(|| {
        layer(logging.writer(io::stderr(), "log-stderr"))
            .without_time()
            .with_target(false)
            .with_filter(LevelFilter::WARN)
    });
    (
        Registry::default().with(filter).with(files).with(stderr),
        logging,
        error,
    )
}

impl Logging {
    fn empty() -> Self {
        Self {
            guards: Vec::new(),
            dropped: Vec::new(),
            unwritten: Arc::default(),
            folder: None,
        }
    }

    fn writer(&mut self, to: impl Write + Send + 'static, thread: &str) -> OneLine {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(WAITING_LINES_MAX)
            .thread_name(thread)
            .finish(Counted {
                to,
                unwritten: self.unwritten.clone(),
            });
        self.guards.push(guard);
        self.dropped.push(writer.error_counter());
        OneLine(writer)
    }
}

fn layer<S>(
    writer: OneLine,
) -> tracing_subscriber::fmt::Layer<
    S,
    tracing_subscriber::fmt::format::DefaultFields,
    tracing_subscriber::fmt::format::Format,
    OneLine,
> {
    tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer)
}

fn files(config: &LogConfig) -> Result<(PathBuf, RollingFileAppender), LoggingError> {
    let folder = config
        .directory
        .clone()
        .or_else(paths::state_dir)
        .ok_or(LoggingError::NoFolder)?;
    create_private(&folder).map_err(|source| LoggingError::Folder {
        folder: folder.clone(),
        source,
    })?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("localhub")
        .filename_suffix("log")
        .max_log_files(usize::try_from(config.files).unwrap_or(usize::MAX))
        .build(&folder)
        .map_err(|source| LoggingError::Open {
            folder: folder.clone(),
            source,
        })?;
    Ok((folder, appender))
}

/// Makes a folder that nobody else can look into; one that exists stays as it is.
fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Keeps one event on one line, whatever is in its fields.
#[derive(Clone)]
struct OneLine(NonBlocking);

impl<'a> MakeWriter<'a> for OneLine {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for OneLine {
    /// Takes a whole event, as `tracing_subscriber` writes it: what is written is dropped or
    /// counted as one.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let line = escaped(text.strip_suffix('\n').unwrap_or(&text));
        self.0.write_all(format!("{line}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Goes on after a line that cannot be written, and counts it.
struct Counted<W> {
    to: W,
    unwritten: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.to.write_all(line).is_err() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> LogConfig {
        LogConfig {
            directory: Some(folder.into()),
            stderr: false,
            ..LogConfig::default()
        }
    }

    /// What the log files have after `events`.
    fn written(config: &LogConfig, events: impl FnOnce()) -> String {
        let (subscriber, logging, error) = prepare(config);
        assert!(error.is_none(), "{error:?}");
        tracing::subscriber::with_default(subscriber, events);
        let folder = logging.folder().unwrap().to_path_buf();
        drop(logging);
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
            .collect()
    }

    #[test]
    fn one_event_is_one_line_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let name = "a\nb\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}c\0";
        let text = written(&config(folder.path()), || {
            tracing::info!(%name, ?name, "joined");
        });
        assert_eq!(text.lines().count(), 1, "{text:?}");
        assert!(text.contains(r"name=a\nb\r"), "{text:?}");
        assert!(!text.trim_end().contains(is_unsafe), "{text:?}");
    }

    #[test]
    fn the_level_decides_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        config.level = "warn,localhub::logging=debug".into();
        let text = written(&config, || {
            tracing::debug!("ours");
            tracing::trace!("too much");
            tracing::info!(target: "elsewhere", "not ours");
            tracing::warn!(target: "elsewhere", "a warning");
        });
        let messages: Vec<_> = ["ours", "too much", "not ours", "a warning"]
            .into_iter()
            .filter(|message| text.contains(&format!(": {message}")))
            .collect();
        assert_eq!(messages, ["ours", "a warning"], "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_is_made_is_private() {
        use std::os::unix::fs::PermissionsExt as _;

        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state/localhub");
        written(&config(&folder), || tracing::info!("hello"));
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn without_a_folder_the_log_goes_on_and_says_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let folder = file.path().join("log");
        let (subscriber, logging, error) = prepare(&config(&folder));
        let error = error.unwrap();
        assert_eq!(
            error.to_string(),
            format!("no log file: cannot create the folder {}", folder.display())
        );
        assert_eq!(logging.folder(), None);
        tracing::subscriber::with_default(subscriber, || tracing::error!("nobody reads this"));
        assert_eq!(logging.lines_lost()(), 0);
    }

    #[test]
    fn lines_that_nobody_takes_are_dropped_and_counted() {
        /// Takes the first line, and then none until the test is over.
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(buf.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (release, stuck) = std::sync::mpsc::sync_channel(0);
        let mut logging = Logging::empty();
        let writer = logging.writer(Stuck(stuck), "stuck");
        let subscriber = Registry::default().with(layer(writer));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..WAITING_LINES_MAX + 10 {
                tracing::error!("again");
            }
        });
        // One line may be with the writer.
        assert!(
            (9..=10).contains(&logging.lines_lost()()),
            "{}",
            logging.lines_lost()()
        );
        drop(release);
    }

    #[test]
    fn lines_that_the_system_does_not_take_are_counted_and_the_next_is_tried() {
        /// Is full at every second line.
        struct Full(u64);
        impl Write for Full {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 % 2 {
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    _ => Ok(buf.len()),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let mut logging = Logging::empty();
        let writer = logging.writer(Full(0), "full");
        let lines_lost = logging.lines_lost();
        tracing::subscriber::with_default(Registry::default().with(layer(writer)), || {
            for _ in 0..10 {
                tracing::error!("again");
            }
        });
        // What waits is written.
        drop(logging);
        assert_eq!(lines_lost(), 5);
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for text in [
            "info",
            "OFF",
            "warn,localhub=debug",
            "localhub::server=trace",
            "[conn]=debug",
        ] {
            check_level(text).unwrap();
        }
        for text in ["inof", "info,localhub", "", "localhub=loud", "[=debug"] {
            assert!(check_level(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn text_from_elsewhere_cannot_change_the_screen() {
        assert_eq!(escaped("Gerät 1 👩‍🔧 \"x\" \\"), "Gerät 1 👩‍🔧 \"x\" \\");
        assert_eq!(escaped("a\tb\x1b[31m"), r"a\tb\u{1b}[31m");
        assert_eq!(
            escaped("exe\u{202e}fdp.\u{2066}"),
            r"exe\u{202e}fdp.\u{2066}"
        );
        assert_eq!(escaped("\u{7f}\u{85}\u{feff}"), r"\u{7f}\u{85}\u{feff}");
    }
}
