//! The wire against its golden vectors (`protocol/vectors`), its shapes (`docs/protocol.cddl`) and
//! its rules in words (`docs/protocol.md`).

mod admin;
mod cbor;
mod cddl;
mod documents;
mod frames;
mod meaning;
mod mistakes;
mod names;
mod source;
mod vectors;
