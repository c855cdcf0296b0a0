use std::path::Path;

use localhub_client::Endpoint;

/// Where no hub listens: for clients whose connections are made by a simulation.
pub fn nowhere() -> Endpoint {
    let path = if cfg!(windows) {
        r"\\.\pipe\nowhere"
    } else {
        "/nowhere"
    };
    Endpoint::new(Path::new(path)).expect("a path")
}
