//! Where files of this user's broker lie, as the system wants it. The only file that knows
//! `directories`.

use std::path::PathBuf;

use directories::ProjectDirs;

/// The configuration file, whether or not it exists.
///
/// | system | path |
/// | --- | --- |
/// | Linux | `$XDG_CONFIG_HOME/localhub/config.toml`, usually in `~/.config` |
/// | macOS | `~/Library/Application Support/localhub/config.toml` |
/// | Windows | `%APPDATA%\localhub\config\config.toml` |
///
/// `None` if the user has no home.
pub fn config_file() -> Option<PathBuf> {
    Some(project()?.config_dir().join("config.toml"))
}

/// The folder of what the broker keeps for operators, such as its log. Clients never need it.
///
/// | system | path |
/// | --- | --- |
/// | Linux | `$XDG_STATE_HOME/localhub`, usually in `~/.local/state` |
/// | macOS | `~/Library/Application Support/localhub` |
/// | Windows | `%LOCALAPPDATA%\localhub\data` |
///
/// `None` if the user has no home.
pub fn state_dir() -> Option<PathBuf> {
    let project = project()?;
    Some(
        project
            .state_dir()
            .unwrap_or_else(|| project.data_local_dir())
            .into(),
    )
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "localhub")
}
