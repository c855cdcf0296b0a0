//! What is measured: what each piece of work starts from, the work, and what must have come of it.
//!
//! The work gives back what it was given, so that nobody measures how that is dropped.

use bytes::BytesMut;
use localhub_protocol::ChannelId;

use crate::world::{self, Arrival, Client, World};

/// The messages of a batch that is long.
const MANY: u64 = 1_000;

const PAYLOAD: [u8; 64] = [b'.'; 64];
const CHANNEL: &str = "devices";
const FILTER: &str = "printer/+/state";
const TOPIC: &str = "printer/1/state";
const OTHER_TOPIC: &str = "printer/2/state";

/// Room for what a client sends. So much comes in pages of its own: where in a page a frame lies is
/// always the same, which matters to how the C library compares bytes.
const ROOM_BYTES: usize = 256 * 1024;

/// The names of those who receive.
const NAMES: [&str; 8] = ["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8"];

/// Bytes that a client sent, and whom they are for.
#[derive(Debug)]
pub struct Delivery {
    read: BytesMut,
    sender: Client,
    receivers: Vec<Client>,
    /// How many messages each receiver is to get.
    messages: u64,
    world: World,
}

/// Somebody at the door.
#[derive(Debug)]
pub struct Door {
    arrival: Option<Arrival>,
    client: Option<Client>,
    /// How many messages the client is to get once it is in.
    messages: u64,
    world: World,
}

/// A publish on the wire.
pub fn publish_frame() -> Vec<u8> {
    world::bytes(&world::publish(ChannelId(12), TOPIC, &PAYLOAD)).to_vec()
}

/// Decodes the header of a publish; the payload is borrowed.
pub fn decode_publish(wire: Vec<u8>) -> Vec<u8> {
    std::hint::black_box(world::decode_client_frame(&wire));
    wire
}

/// The header of a run on the wire.
pub fn run_header() -> Vec<u8> {
    world::run_header()
}

/// Decodes the header of a run.
pub fn decode_run(wire: Vec<u8>) -> Vec<u8> {
    std::hint::black_box(world::decode_broker_frame(&wire));
    wire
}

/// Room for a publish.
pub fn room() -> Vec<u8> {
    Vec::with_capacity(256)
}

/// Encodes a publish.
pub fn encode_publish(mut wire: Vec<u8>) -> Vec<u8> {
    let frame = world::publish(ChannelId(12), TOPIC, &PAYLOAD);
    std::hint::black_box(frame).encode(&mut wire);
    wire
}

/// One publish to some receivers.
pub fn one_publish(receivers: usize) -> Delivery {
    delivery(1, receivers, [TOPIC, TOPIC])
}

/// Many publishes of one topic, which go as one run.
pub fn many_publishes(receivers: usize) -> Delivery {
    delivery(MANY, receivers, [TOPIC, TOPIC])
}

/// Many publishes of two topics by turns, none of which can go with the one before.
pub fn alternating_publishes(receivers: usize) -> Delivery {
    delivery(MANY, receivers, [TOPIC, OTHER_TOPIC])
}

/// One direct message.
pub fn one_direct() -> Delivery {
    let mut delivery = one_publish(1);
    let to = delivery.receivers[0].id();
    delivery.read = world::bytes(&world::direct(to, &PAYLOAD));
    delivery
}

/// One publish of a topic whose receivers the channel remembers, among many filters.
pub fn remembered_route() -> Delivery {
    let mut delivery = unknown_route();
    let again = delivery.read.clone();
    delivery.sender.reads(&mut delivery.read);
    settle(&mut delivery.receivers);
    delivery.read = again;
    delivery
}

/// One publish of a topic whose receivers the channel has to find, among many filters.
pub fn unknown_route() -> Delivery {
    let mut delivery = one_publish(NAMES.len());
    for number in 0..100 {
        let other = format!("printer/{number}/tray/+");
        delivery.sender.subscribes(&other);
    }
    delivery
}

/// Carries out what was read, and takes it for each receiver.
pub fn deliver(mut delivery: Delivery) -> Delivery {
    delivery.sender.reads(&mut delivery.read);
    for receiver in &mut delivery.receivers {
        receiver.takes();
    }
    delivery
}

/// Carries out what was read; it waits for the receivers.
pub fn route(mut delivery: Delivery) -> Delivery {
    delivery.sender.reads(&mut delivery.read);
    delivery
}

/// Many messages that were sent to a client one by one, and its confirmation of all of them.
pub fn many_unconfirmed() -> Delivery {
    let mut delivery = deliver(alternating_publishes(1));
    let mut receiver = delivery.receivers.remove(0);
    receiver.hears();
    delivery.read = receiver.ack();
    delivery.sender = receiver;
    delivery
}

/// Carries out a confirmation.
pub fn confirm(mut delivery: Delivery) -> Delivery {
    delivery.sender.reads(&mut delivery.read);
    delivery
}

/// A client that is new.
pub fn newcomer() -> Door {
    let mut world = World::default();
    let arrival = world.newcomer("newcomer");
    Door {
        arrival: Some(arrival),
        client: None,
        messages: 0,
        world,
    }
}

/// A client that comes back while many messages wait for it, each on its own. All were sent to it
/// before, and none arrived.
pub fn returner() -> Door {
    let Delivery {
        mut receivers,
        messages,
        mut world,
        ..
    } = deliver(alternating_publishes(1));
    let arrival = world.cut(receivers.remove(0));
    Door {
        arrival: Some(arrival),
        client: None,
        messages,
        world,
    }
}

/// Lets somebody in, and takes what the client is told first and what waits for it.
pub fn attach(mut door: Door) -> Door {
    let arrival = door.arrival.take();
    door.client = arrival.map(|arrival| {
        let mut client = door.world.attach(arrival);
        client.takes();
        client
    });
    door
}

/// Checks that each receiver got all there was for it.
///
/// # Panics
/// It did not.
pub fn check_delivery(delivery: Delivery) {
    assert!(delivery.read.is_empty(), "everything was carried out");
    for mut receiver in delivery.receivers {
        assert_eq!(receiver.hears(), delivery.messages, "messages delivered");
    }
}

/// Checks that the client was let in, with what waited for it.
///
/// # Panics
/// It was not.
pub fn check_door(door: Door) {
    let mut client = door.client.expect("the client is in");
    assert_eq!(client.hears(), door.messages, "messages that waited");
}

/// A channel where both topics were published before, and publishes that the sender has just sent.
fn delivery(messages: u64, receivers: usize, topics: [&str; 2]) -> Delivery {
    let mut world = World::default();
    let mut sender = world.member("sender", CHANNEL);
    let mut receivers: Vec<Client> = NAMES[..receivers]
        .iter()
        .map(|name| {
            let mut receiver = world.member(name, CHANNEL);
            receiver.subscribes(FILTER);
            receiver
        })
        .collect();
    let publishes = |messages: u64| {
        let mut bytes = BytesMut::with_capacity(ROOM_BYTES);
        for topic in topics.iter().cycle().take(messages as usize) {
            let frame = world::publish(sender.channel(), topic, &PAYLOAD);
            bytes.extend_from_slice(&world::bytes(&frame));
        }
        bytes
    };
    let (mut before, read) = (publishes(2), publishes(messages));
    sender.reads(&mut before);
    settle(&mut receivers);
    Delivery {
        read,
        sender,
        receivers,
        messages,
        world,
    }
}

/// Lets the receivers hear and confirm what there is, and wait for more.
fn settle(receivers: &mut [Client]) {
    for receiver in receivers {
        receiver.hears();
        let mut ack = receiver.ack();
        receiver.reads(&mut ack);
        receiver.waits();
    }
}
