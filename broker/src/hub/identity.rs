//! Who is at the other end of a connection, as the kernel says.

use std::fmt;

/// Who opened a connection, as the kernel said when it was accepted.
///
/// Only [`user`](Self::user) and [`gid`](Self::gid) authorise anything. The process may have handed
/// its connection to another one, and its number may be given to another one once it has ended:
/// `pid` and `executable` are for people to read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The user the process ran as.
    pub user: User,
    /// The group it ran as, where there are such groups (Unix).
    pub gid: Option<u32>,
    /// The process, unless the kernel does not tell or it is in a place where it has no number.
    pub pid: Option<u32>,
    /// The path of its program, unless it is hidden from us or the process has already ended.
    pub executable: Option<String>,
}

/// A user of the machine.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum User {
    /// The security identifier of a Windows account: `S-1-5-21-..`.
    Sid(String),
    /// The number of a Unix account.
    Uid(u32),
}

/// `uid 1000, pid 42, "/opt/player"`: as much as is known, for logs and errors.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(f)?;
        if let Some(pid) = self.pid {
            write!(f, ", pid {pid}")?;
        }
        if let Some(executable) = &self.executable {
            write!(f, ", {executable:?}")?;
        }
        Ok(())
    }
}

/// `uid 1000`, or the SID alone.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sid(sid) => f.write_str(sid),
            Self::Uid(uid) => write!(f, "uid {uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_shows_what_is_known() {
        let mut identity = Identity {
            user: User::Uid(1000),
            gid: Some(1000),
            pid: Some(42),
            executable: Some("/opt/a\nb".into()),
        };
        assert_eq!(identity.to_string(), r#"uid 1000, pid 42, "/opt/a\nb""#);
        identity.pid = None;
        identity.executable = None;
        identity.user = User::Sid("S-1-5-18".into());
        assert_eq!(identity.to_string(), "S-1-5-18");
    }
}
