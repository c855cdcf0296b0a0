//! The lock of what is shared between connections. `tests/outbox_model` puts one in its place that tries all
//! orders in which threads can get it.

pub(super) use parking_lot::Mutex;
