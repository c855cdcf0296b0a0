/// How much one outbox holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) outbox: Load,
    /// Whether all outboxes together may be full as well.
    pub(super) memory_is_tight: bool,
}

/// Some messages, and the most bytes that they may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Space {
    /// Whether there is certainly room for `more`.
    pub(super) fn fits(self, held: Load, more: Load) -> bool {
        held.messages + more.messages <= self.outbox.messages
            && held.bytes + more.bytes <= self.outbox.bytes
    }
}

impl Load {
    pub(super) fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes;
    }

    pub(super) fn subtract(&mut self, bytes: u64) {
        self.messages -= 1;
        self.bytes -= bytes;
    }

    /// The larger of each.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            messages: self.messages.max(other.messages),
            bytes: self.bytes.max(other.bytes),
        }
    }
}
