use localhub_protocol::ChannelId;

/// What became of every message that a client of the simulation ever sent, over all its sessions.
///
/// A payload begins with its author and its number among the messages of that author, so no two
/// messages are the same.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    authors: Vec<Author>,
}

#[derive(Debug, Default)]
struct Author {
    fates: Vec<Fate>,
    /// The last message that was carried out, for each place it may go to.
    last: Vec<(Option<ChannelId>, u32)>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// The hub has not seen it.
    Unseen,
    /// It is in the outboxes of all it was for.
    Accepted,
    /// The hub did not do it.
    Refused,
}

/// The author and the number at the front of a payload.
pub(super) const MARK_BYTES: usize = 8;

impl Ledger {
    pub(super) fn new(authors: usize) -> Self {
        Self {
            authors: (0..authors).map(|_| Author::default()).collect(),
        }
    }

    /// An author begins anew, as another: it knows nothing of what it sent before.
    pub(super) fn begin(&mut self) -> usize {
        self.authors.push(Author::default());
        self.authors.len() - 1
    }

    /// Writes down that an author is about to send a message; gives its mark.
    pub(super) fn open(&mut self, author: usize) -> (u32, [u8; MARK_BYTES]) {
        let fates = &mut self.authors[author].fates;
        let number = fates.len() as u32;
        fates.push(Fate::Unseen);
        let mark = (author as u64) << 32 | u64::from(number);
        (number, mark.to_be_bytes())
    }

    /// The hub has dealt with the message. It never does so twice, and in the order in which they
    /// were sent to one place.
    pub(super) fn close(&mut self, payload: &[u8], to: Option<ChannelId>, fate: Fate) {
        let mark = payload.first_chunk::<MARK_BYTES>().expect("a mark");
        let mark = u64::from_be_bytes(*mark);
        let (author, number) = ((mark >> 32) as usize, mark as u32);
        let sent = &mut self.authors[author];
        let known = &mut sent.fates[number as usize];
        assert_eq!(
            *known,
            Fate::Unseen,
            "message {number} of client {author} was carried out twice"
        );
        *known = fate;
        match sent.last.iter_mut().find(|(place, _)| *place == to) {
            Some((_, last)) => {
                assert!(
                    *last < number,
                    "message {number} of client {author} came behind its message {last}"
                );
                *last = number;
            }
            None => sent.last.push((to, number)),
        }
    }

    pub(super) fn fate(&self, author: usize, number: u32) -> Fate {
        self.authors[author].fates[number as usize]
    }
}
