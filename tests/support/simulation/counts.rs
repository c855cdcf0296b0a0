use localhub_protocol::{BrokerFrame, ClientId, Code, Resumed};

use super::heard::Heard;

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Messages that clients heard.
    pub messages: u64,
    /// Messages that streams of the SDK gave to programs.
    pub given: u64,
    /// Messages that gaps counted, but for those that made way for newer ones.
    pub lost: u64,
    /// Messages that made way for newer ones.
    pub conflated: u64,
    /// Resumes in which nothing was lost.
    pub recovered: u64,
    /// Resumes in which something was.
    pub lossy: u64,
    /// Resumes of sessions that were gone.
    pub replaced: u64,
    /// Old connections whose bytes were not accepted any more.
    pub fenced: u64,
    /// Direct messages and snapshots that a full outbox refused.
    pub direct_refused: u64,
    /// Clients that did not answer pings.
    pub hung: u64,
    /// Hubs that an SDK did not hear of.
    pub silent: u64,
    /// Reads of an SDK that waited for a full inbox.
    pub blocked: u64,
    /// Subscriptions to what was subscribed already.
    pub policy_changes: u64,
    /// Publishers that had to wait.
    pub stalls: u64,
    /// Waits that did not help.
    pub waits_in_vain: u64,
    /// Those of them that were as long as `block` asks for.
    pub long_waits: u64,
    /// Connections that were closed because their clients read too slowly.
    pub parks: u64,
    /// Subscriptions that began with kept messages.
    pub history_starts: u64,
    /// Subscriptions that began after messages that were not kept any more.
    pub history_losses: u64,
    /// Subscriptions that wanted to begin where the channel had not come to.
    pub unknown_offsets: u64,
    /// Wills that were published.
    pub wills_published: u64,
    /// Those of them that were published because the session ended.
    pub wills_at_end: u64,
    /// Wills whose clients came back in time.
    pub wills_cancelled: u64,
    /// Absences of which nobody was told.
    pub debounced: u64,
    /// Absences of which others were told later.
    pub told_late: u64,
    /// Clients of which others were told that they do not keep up.
    pub stalled: u64,
    /// Sessions that their clients ended.
    pub goodbyes: u64,
    /// Sessions that an operator ended.
    pub kicked: u64,
    /// Sessions whose processes died.
    pub died: u64,
    /// Sessions to which nobody came back.
    pub expired: u64,
    /// Sessions whose names others took.
    pub names_taken: u64,
    /// Wrong tokens.
    pub wrong_tokens: u64,
    /// Clients that had shown too many of them.
    pub locked_out: u64,
    /// A checksum over everything heard, in order.
    pub checksum: u64,
}

impl Counts {
    pub(super) fn welcome(&mut self, resumed: Option<Resumed>) {
        match resumed {
            Some(resumed) if resumed.lost.is_none() => self.replaced += 1,
            Some(resumed) if resumed.recovered => self.recovered += 1,
            Some(_) => self.lossy += 1,
            None => {}
        }
    }

    pub(super) fn heard(&mut self, client: ClientId, heard: &Heard<'_>) {
        match heard.frame {
            BrokerFrame::Message(_) => self.messages += 1,
            BrokerFrame::Gap(gap) if gap.cause == Code::CONFLATED => self.conflated += gap.lost,
            BrokerFrame::Gap(gap) => self.lost += gap.lost,
            BrokerFrame::Refusal { code, .. } => {
                self.direct_refused += u64::from(*code == Code::OUTBOX_FULL);
            }
            _ => {}
        }
        let sum: u64 = heard.body.iter().map(|byte| u64::from(*byte)).sum();
        self.checksum = self
            .checksum
            .wrapping_mul(0x0100_0000_01b3)
            .wrapping_add(sum + client.0);
    }

    /// A session is over.
    pub(super) fn ended(&mut self, cause: Code) {
        match cause {
            Code::GOODBYE => self.goodbyes += 1,
            Code::KICKED => self.kicked += 1,
            Code::PROCESS_DIED => self.died += 1,
            Code::SESSION_EXPIRED => self.expired += 1,
            Code::NAME_TAKEN => self.names_taken += 1,
            _ => {}
        }
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.given += other.given;
        self.lost += other.lost;
        self.conflated += other.conflated;
        self.recovered += other.recovered;
        self.lossy += other.lossy;
        self.replaced += other.replaced;
        self.fenced += other.fenced;
        self.direct_refused += other.direct_refused;
        self.hung += other.hung;
        self.silent += other.silent;
        self.blocked += other.blocked;
        self.policy_changes += other.policy_changes;
        self.stalls += other.stalls;
        self.waits_in_vain += other.waits_in_vain;
        self.long_waits += other.long_waits;
        self.parks += other.parks;
        self.history_starts += other.history_starts;
        self.history_losses += other.history_losses;
        self.unknown_offsets += other.unknown_offsets;
        self.wills_published += other.wills_published;
        self.wills_at_end += other.wills_at_end;
        self.wills_cancelled += other.wills_cancelled;
        self.debounced += other.debounced;
        self.told_late += other.told_late;
        self.stalled += other.stalled;
        self.goodbyes += other.goodbyes;
        self.kicked += other.kicked;
        self.died += other.died;
        self.expired += other.expired;
        self.names_taken += other.names_taken;
        self.wrong_tokens += other.wrong_tokens;
        self.locked_out += other.locked_out;
        self.checksum ^= other.checksum;
    }
}
