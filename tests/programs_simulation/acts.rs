//! What the programs do.

use std::time::Duration;

use localhub_client::{Client, Failure, Serve, To};
use localhub_tests::Rng;

use crate::judge::{Answer, Fate, Judge};
use crate::program::{Done, Program, What};
use crate::words;

/// What a command asks for, the same whoever sends it.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    command: usize,
    to: To,
    bytes: usize,
}

/// Names of programs. The last one is of nobody.
pub(crate) const NAMES: [&str; 6] = ["ana", "bo", "cy", "dan", "eva", "nobody"];

const SHARED: [&str; 2] = ["printer", "scanner"];
pub(crate) const EXCLUSIVE: [&str; 2] = ["clock", "door"];

/// No request waits for longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1_200);

/// How many messages go together that nobody reads.
const GREETINGS: u32 = 4;

/// The most parts of a reply that are read at once.
const READ_MAX: u64 = 4;

impl Program {
    /// Does something.
    pub(crate) fn act(&mut self, rng: &mut Rng, orders: &mut Vec<Order>, judge: &mut Judge) {
        match rng.below(60) {
            0..=3 => self.ask(rng, judge),
            4..=7 => self.command(rng, orders, judge),
            8..=11 => self.stream(rng, judge),
            12 => self.forget(rng, judge),
            13 | 14 => self.drop_call(rng, judge),
            15..=20 => self.read_some(rng, judge),
            21..=30 => self.take_requests(1 + rng.below(3) as usize, judge),
            31..=40 => self.answer_one(rng, judge),
            41..=50 => self.send_part(rng, judge),
            51..=53 => self.serve(rng, judge),
            54 if rng.once_in(3) => self.unserve(rng, judge),
            56..=59 => self.greet(rng, judge),
            55 if rng.once_in(8) => match self.own.take() {
                Some(_) => judge.tell(format_args!("{} takes no requests", self.who.name)),
                None => self.take_own(),
            },
            _ => {}
        }
        if self.own.is_none() && rng.once_in(20) {
            self.take_own();
        }
    }

    fn ask(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let (to, timeout) = (self.target(rng), timeout(rng));
        let call = self.begins(judge, None, 0, timeout, &to);
        let request = self.client.request(to, "ask").timeout(timeout);
        let request = request.payload(words::payload('c', call, bytes(rng)));
        self.call(judge, call, async move {
            Done::Ended(call, request.send().await)
        });
    }

    /// Sends a new command, or one that was sent before.
    fn command(&mut self, rng: &mut Rng, orders: &mut Vec<Order>, judge: &mut Judge) {
        let order = if rng.once_in(2) && !orders.is_empty() {
            let recent = orders.len().min(12);
            let at = orders.len() - 1 - rng.below(recent as u64) as usize;
            orders[at].clone()
        } else {
            let (to, bytes) = (self.target(rng), bytes(rng));
            let command = judge.new_command();
            let order = Order { command, to, bytes };
            orders.push(order.clone());
            order
        };
        let timeout = timeout(rng);
        let call = self.begins(judge, Some(order.command), 0, timeout, &order.to);
        let payload = words::payload('o', order.command, order.bytes);
        let id = words::command_id(order.command);
        let request = self.client.request(order.to, "command").timeout(timeout);
        let request = request.payload(payload).command_id(id);
        self.call(judge, call, async move {
            Done::Ended(call, request.send().await)
        });
    }

    /// Asks for a reply in parts.
    fn stream(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let (to, timeout) = (self.target(rng), timeout(rng));
        let window = words::BYTES_MIN as u32 + rng.below(400) as u32;
        let call = self.begins(judge, None, window, timeout, &to);
        let request = self.client.request(to, "stream").timeout(timeout);
        let request = request.payload(words::payload('c', call, bytes(rng)));
        self.call(judge, call, async move {
            Done::Opened(call, request.stream(window).await)
        });
    }

    /// Asks, and does not wait for the outcome.
    fn forget(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let (to, timeout) = (self.target(rng), timeout(rng));
        let call = self.begins(judge, None, 0, timeout, &to);
        judge.calls[call].fate = Fate::Nobody;
        judge.count("acts", "forget");
        let request = self.client.request(to, "forget").timeout(timeout);
        let request = request.payload(words::payload('c', call, bytes(rng)));
        let future = async move { Done::Forgotten(request.forget().await) };
        self.begin(What::Call(call), judge, future);
    }

    /// Sends some messages that nobody reads: they take the room of others.
    fn greet(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let to = NAMES[rng.below(NAMES.len() as u64) as usize];
        judge.tell(format_args!("{} greets {to}", self.who.name));
        for _ in 0..GREETINGS {
            let (client, payload) = (self.client.clone(), vec![b'.'; words::BYTES_MIN]);
            self.begin(What::Greet, judge, async move {
                let _ = client.send(to, payload).await;
                Done::Greeted
            });
        }
    }

    fn begins(
        &self,
        judge: &mut Judge,
        command: Option<usize>,
        window: u32,
        timeout: Duration,
        to: &To,
    ) -> usize {
        let call = judge.begins(self.who, command, window, timeout);
        let what = command.map_or_else(String::new, |id| format!(", which is o{id},"));
        judge.tell(format_args!(
            "{} asks c{call}{what} of {to:?}, window {window}, for {timeout:?}",
            self.who.name
        ));
        call
    }

    fn call(
        &mut self,
        judge: &mut Judge,
        call: usize,
        future: impl Future<Output = Done> + 'static,
    ) {
        let before = self.open_requests();
        self.begin(What::Call(call), judge, future);
        judge.calls[call].prompt = self.open_requests() > before;
    }

    /// Lets go of a request that has no outcome.
    pub(crate) fn drop_call(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let calls = self.waits.iter().filter_map(|it| match it.what {
            What::Call(call) if judge.calls[call].fate == Fate::Open => Some(call),
            _ => None,
        });
        let calls: Vec<_> = calls.chain(self.readers.iter().map(|it| it.call)).collect();
        if calls.is_empty() {
            return;
        }
        let call = calls[rng.below(calls.len() as u64) as usize];
        judge.tell(format_args!("{} drops c{call}", self.who.name));
        judge.count("acts", "drop");
        judge.is_dropped(call, self.who);
        self.waits.retain(|it| it.what != What::Call(call));
        self.readers.retain(|reader| reader.call != call);
    }

    fn read_some(&mut self, rng: &mut Rng, judge: &mut Judge) {
        if !self.readers.is_empty() {
            let at = rng.below(self.readers.len() as u64) as usize;
            self.read_parts(at, 1 + rng.below(READ_MAX) as usize, judge);
        }
    }

    fn answer_one(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let free = |at: &usize| {
            let job = &self.desk[*at];
            job.parts.is_some() || job.incoming.window() == 0
        };
        let free: Vec<_> = (0..self.desk.len()).filter(free).collect();
        if !free.is_empty() {
            self.answer(free[rng.below(free.len() as u64) as usize], rng, judge);
        }
    }

    /// Answers a request on the desk.
    pub(crate) fn answer(&mut self, at: usize, rng: &mut Rng, judge: &mut Judge) {
        let job = self.desk.remove(at);
        let (n, incoming) = (job.handling, job.incoming);
        drop(job.parts);
        let how = rng.below(8);
        judge.tell(format_args!(
            "{} answers e{n}, {}",
            self.who.name,
            ["fails", "drops"].get(how as usize).unwrap_or(&"replies")
        ));
        match how {
            0 => {
                judge.handlings[n].answer = Some(Answer::Failed);
                let failure = Failure::new("jam", format!("e{n} "));
                let future = async move { Done::Answered(n, incoming.fail(failure).await) };
                self.begin(What::Answer(n), judge, future);
            }
            1 => judge.handlings[n].answer = Some(Answer::Dropped),
            _ => {
                let payload = words::payload('e', n, bytes(rng));
                judge.handlings[n].answer = Some(Answer::Replied(payload.clone()));
                let future = async move { Done::Answered(n, incoming.reply(payload).await) };
                self.begin(What::Answer(n), judge, future);
            }
        }
    }

    fn send_part(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let jobs = self.desk.iter_mut().filter(|job| job.parts.is_some());
        let mut jobs: Vec<_> = jobs.collect();
        if jobs.is_empty() {
            return;
        }
        let at = rng.below(jobs.len() as u64) as usize;
        let job = &mut jobs[at];
        let (n, Some(mut parts)) = (job.handling, job.parts.take()) else {
            return;
        };
        let most = job.incoming.window() as usize - words::BYTES_MIN;
        let bytes = words::BYTES_MIN + rng.below(most as u64 + 1) as usize;
        let payload = words::part(n, judge.handlings[n].parts.len(), bytes);
        judge.tell(format_args!(
            "{} sends {}",
            self.who.name,
            words::short(&payload)
        ));
        self.begin(What::Part(n), judge, async move {
            let sent = parts.send(payload).await;
            Done::Sent(n, bytes, parts, sent)
        });
    }

    fn serve(&mut self, rng: &mut Rng, judge: &mut Judge) {
        let service = rng.below(4) as usize;
        let (name, serve) = match service {
            0 | 1 => (SHARED[service], Serve::new()),
            _ if rng.once_in(3) => (EXCLUSIVE[service - 2], Serve::new().takeover()),
            _ => (EXCLUSIVE[service - 2], Serve::new().exclusive()),
        };
        let asked = self.waits.iter().any(|it| it.what == What::Serve(name));
        if asked || self.services.iter().any(|it| it.name == name) {
            return;
        }
        judge.tell(format_args!("{} serves {name}, {serve:?}", self.who.name));
        let client: Client = self.client.clone();
        let future = async move { Done::Served(name, client.serve_with(name, serve).await) };
        self.begin(What::Serve(name), judge, future);
    }

    fn unserve(&mut self, rng: &mut Rng, judge: &mut Judge) {
        if !self.services.is_empty() {
            let at = rng.below(self.services.len() as u64) as usize;
            let name = self.services.swap_remove(at).name;
            judge.tell(format_args!("{} serves {name} no more", self.who.name));
        }
    }

    /// Whom to ask: also itself, and who is not there.
    fn target(&self, rng: &mut Rng) -> To {
        match rng.below(10) {
            0..=3 => To::service(SHARED[rng.below(2) as usize]),
            4..=6 => To::service(EXCLUSIVE[rng.below(2) as usize]),
            7 if self.who.epoch > 0 => To::client(self.who.client),
            _ => To::client(NAMES[rng.below(NAMES.len() as u64) as usize]),
        }
    }

    fn open_requests(&self) -> usize {
        let holds = self.holds();
        let open = holds.iter().find(|(what, _)| *what == "requests");
        open.map_or(0, |(_, count)| *count)
    }
}

fn bytes(rng: &mut Rng) -> usize {
    words::BYTES_MIN + rng.below(300) as usize
}

fn timeout(rng: &mut Rng) -> Duration {
    match rng.below(4) {
        0 => Duration::from_millis(1 + rng.below(500)),
        1 => Duration::from_millis(1 + rng.below(8_000)),
        2 => Duration::from_secs(1 + rng.below(60)),
        _ => PATIENCE,
    }
}
