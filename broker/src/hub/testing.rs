//! What tests of this crate have in common: a small hub, and who talks to it.

use std::time::Duration;

use localhub_protocol::{Epoch, Limits};

use super::{About, Identity, Settings, User};

/// A hub for a few clients.
pub(crate) fn settings() -> Settings {
    Settings {
        limits: Limits::default(),
        memory_bytes: 1 << 30,
        sessions: 10,
        channels: 10,
        retained_topics: 10,
        retained_bytes: 1 << 10,
        history_messages: 10,
        history_bytes: 1 << 10,
        history_age: Duration::from_secs(1),
        ttl: Duration::from_secs(120),
        ttl_max: Duration::from_secs(120),
        ping: Duration::from_secs(15),
        epoch: Epoch([7; 16]),
        about: About::default(),
    }
}

/// Somebody of whom nothing is known.
pub(crate) fn identity() -> Identity {
    Identity {
        user: User::Uid(0),
        gid: None,
        pid: None,
        executable: None,
    }
}
