use std::fmt;

use crate::cbor::{Reader, Writer};
use crate::limits::{FEATURES_MAX, Limits};
use crate::{ClientId, Epoch, FrameError, ResumeToken, kind};

/// A protocol version. A new minor only adds; another major is another protocol.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// Changes when something that existed means something else.
    pub major: u16,
    /// Changes when something is added.
    pub minor: u16,
}

impl Version {
    /// The version that this crate speaks.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };

    /// The highest version that lies in both ranges, each from its lowest to its highest.
    ///
    /// A side that speaks `1.4` speaks every minor below it, so ranges differ in majors only.
    pub fn choose(ours: (Self, Self), theirs: (Self, Self)) -> Option<Self> {
        let highest = ours.1.min(theirs.1);
        (highest >= ours.0 && highest >= theirs.0).then_some(highest)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        r.array_of(2)?;
        Ok(Self {
            major: r.u16()?,
            minor: r.u16()?,
        })
    }

    fn write(self, w: &mut Writer<'_>) {
        w.array(2).uint(self.major.into()).uint(self.minor.into());
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The first frame of a connection: who the client is and what it speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello<'a> {
    /// The lowest and the highest version that the client speaks.
    pub versions: (Version, Version),
    /// What the client can do beyond its version. Unknown ones are passed over.
    pub features: Vec<&'a str>,
    /// The name that the client asks for, not yet checked; the broker gives one to a client that does not.
    pub name: Option<&'a str>,
    /// The session that the client comes back to.
    pub resume: Option<Resume>,
    /// How long the session shall outlive a lost connection, in milliseconds; the broker's default
    /// if not given, and never more than its limit.
    pub ttl_ms: Option<u32>,
}

/// What a client says to come back to its session.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resume {
    /// The epoch of the broker that gave the session.
    pub epoch: Epoch,
    /// The session.
    pub client: ClientId,
    /// The token of the last `Welcome`.
    pub token: ResumeToken,
    /// How many messages of the broker the client has received.
    pub received: u64,
}

/// The broker's answer to a `Hello` that it accepts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Welcome<'a> {
    /// The version that this connection speaks.
    pub version: Version,
    /// What the broker can do beyond it.
    pub features: Vec<&'a str>,
    /// This life of the broker's state.
    pub epoch: Epoch,
    /// The session.
    pub client: ClientId,
    /// The client's name.
    pub name: &'a str,
    /// With what to come back to this session, once.
    pub token: ResumeToken,
    /// What became of the resume, if one was asked for.
    pub resumed: Option<Resumed>,
    /// How many messages of the client the broker has carried out in this session.
    pub received: u64,
    /// How long the session outlives a lost connection, in milliseconds.
    pub ttl_ms: u32,
    /// How long the broker waits in silence before it pings, in milliseconds.
    pub ping_ms: u32,
    /// What the broker allows.
    pub limits: Limits,
}

/// What became of a resume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resumed {
    /// Whether the session is the old one and nothing was lost.
    pub recovered: bool,
    /// How many messages are sent again or for the first time from here.
    pub replayed: u64,
    /// How many messages were lost, each shown by a gap in its place; `None` if nobody knows,
    /// because the session is gone.
    pub lost: Option<u64>,
}

/// The second item of a `Hello`, so that a stranger's bytes are told at once.
const MAGIC: &str = "localhub";

impl<'a> Hello<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        if r.text()? != MAGIC {
            return Err(FrameError::malformed("a hello begins with \"localhub\""));
        }
        Ok(Self {
            versions: (Version::read(r)?, Version::read(r)?),
            features: r.list(FEATURES_MAX, Reader::text)?,
            name: r.optional(Reader::text)?,
            resume: r.optional(Resume::read)?,
            ttl_ms: r.optional(Reader::u32)?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.array(Self::ITEMS).uint(kind::HELLO).text(MAGIC);
        self.versions.0.write(w);
        self.versions.1.write(w);
        write_features(&self.features, w);
        w.optional(self.name, |w, name| {
            w.text(name);
        })
        .optional(self.resume.as_ref(), |w, resume| resume.write(w))
        .optional(self.ttl_ms, |w, ttl_ms| {
            w.uint(ttl_ms.into());
        });
    }

    pub(crate) const ITEMS: usize = 8;
}

impl Resume {
    fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        r.array_of(4)?;
        Ok(Self {
            epoch: Epoch(r.bytes_of()?),
            client: ClientId(r.uint()?),
            token: ResumeToken(r.bytes_of()?),
            received: r.uint()?,
        })
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.array(4)
            .bytes(&self.epoch.0)
            .uint(self.client.0)
            .bytes(&self.token.0)
            .uint(self.received);
    }
}

impl<'a> Welcome<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Self, FrameError> {
        Ok(Self {
            version: Version::read(r)?,
            features: r.list(FEATURES_MAX, Reader::text)?,
            epoch: Epoch(r.bytes_of()?),
            client: ClientId(r.uint()?),
            name: r.text()?,
            token: ResumeToken(r.bytes_of()?),
            resumed: r.optional(Resumed::read)?,
            received: r.uint()?,
            ttl_ms: r.u32()?,
            ping_ms: r.u32()?,
            limits: read_limits(r)?,
        })
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.array(Self::ITEMS).uint(kind::WELCOME);
        self.version.write(w);
        write_features(&self.features, w);
        w.bytes(&self.epoch.0)
            .uint(self.client.0)
            .text(self.name)
            .bytes(&self.token.0)
            .optional(self.resumed, |w, resumed| resumed.write(w))
            .uint(self.received)
            .uint(self.ttl_ms.into())
            .uint(self.ping_ms.into());
        let Limits {
            payload_bytes,
            outbox_bytes,
            outbox_messages,
            channels,
            subscriptions,
        } = self.limits;
        w.array(5)
            .uint(payload_bytes)
            .uint(outbox_bytes)
            .uint(outbox_messages)
            .uint(channels)
            .uint(subscriptions);
    }

    pub(crate) const ITEMS: usize = 12;
}

impl Resumed {
    fn read(r: &mut Reader<'_>) -> Result<Self, FrameError> {
        r.array_of(3)?;
        Ok(Self {
            recovered: r.bool()?,
            replayed: r.uint()?,
            lost: r.optional(Reader::uint)?,
        })
    }

    fn write(self, w: &mut Writer<'_>) {
        w.array(3)
            .bool(self.recovered)
            .uint(self.replayed)
            .optional(self.lost, |w, lost| {
                w.uint(lost);
            });
    }
}

/// The limits of a `Welcome`: a newer minor may append to this list, so what follows is passed over.
fn read_limits(r: &mut Reader<'_>) -> Result<Limits, FrameError> {
    const KNOWN: usize = 5;
    let numbers = r.list(FEATURES_MAX, Reader::uint)?;
    if numbers.len() < KNOWN {
        return Err(FrameError::malformed(
            "a welcome tells at least five limits",
        ));
    }
    Ok(Limits {
        payload_bytes: numbers[0],
        outbox_bytes: numbers[1],
        outbox_messages: numbers[2],
        channels: numbers[3],
        subscriptions: numbers[4],
    })
}

fn write_features(features: &[&str], w: &mut Writer<'_>) {
    w.array(features.len());
    for feature in features {
        w.text(feature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        let v = |major, minor| Version { major, minor };
        let choose =
            |ours: (Version, Version), theirs: (Version, Version)| Version::choose(ours, theirs);
        assert_eq!(
            choose((v(1, 0), v(1, 4)), (v(1, 0), v(1, 2))),
            Some(v(1, 2))
        );
        assert_eq!(
            choose((v(1, 0), v(2, 1)), (v(2, 0), v(3, 0))),
            Some(v(2, 1))
        );
        assert_eq!(choose((v(1, 0), v(1, 9)), (v(2, 0), v(2, 0))), None);
        assert_eq!(choose((v(3, 0), v(3, 0)), (v(1, 0), v(2, 7))), None);
    }
}
