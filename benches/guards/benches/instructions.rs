//! Counts the instructions of each piece of work. `run` starts it and judges the counts.

#![expect(
    clippy::disallowed_methods,
    missing_docs,
    reason = "gungraun's macros make a main that exits, and public items"
)]

use guards::work::{self, Delivery, Door};
use gungraun::prelude::*;
use gungraun::{Callgrind, main};

#[library_benchmark(setup = work::publish_frame)]
#[bench::publish()]
fn decode(wire: Vec<u8>) -> Vec<u8> {
    work::decode_publish(wire)
}

#[library_benchmark(setup = work::run_header)]
#[bench::header()]
fn decode_run(wire: Vec<u8>) -> Vec<u8> {
    work::decode_run(wire)
}

#[library_benchmark(setup = work::room)]
#[bench::publish()]
fn encode(wire: Vec<u8>) -> Vec<u8> {
    work::encode_publish(wire)
}

#[library_benchmark(teardown = work::check_delivery)]
#[bench::remembered(setup = work::remembered_route)]
#[bench::unknown(setup = work::unknown_route)]
fn route(delivery: Delivery) -> Delivery {
    work::route(delivery)
}

#[library_benchmark(teardown = work::check_delivery)]
#[bench::one_to_1(args = (1), setup = work::one_publish)]
#[bench::one_to_8(args = (8), setup = work::one_publish)]
#[bench::run_to_1(args = (1), setup = work::many_publishes)]
#[bench::run_to_8(args = (8), setup = work::many_publishes)]
#[bench::alternating_to_1(args = (1), setup = work::alternating_publishes)]
#[bench::alternating_to_8(args = (8), setup = work::alternating_publishes)]
#[bench::direct(setup = work::one_direct)]
fn deliver(delivery: Delivery) -> Delivery {
    work::deliver(delivery)
}

#[library_benchmark(setup = work::many_unconfirmed, teardown = work::check_delivery)]
#[bench::many()]
fn confirm(delivery: Delivery) -> Delivery {
    work::confirm(delivery)
}

#[library_benchmark(teardown = work::check_door)]
#[bench::newcomer(setup = work::newcomer)]
#[bench::returner(setup = work::returner)]
fn attach(door: Door) -> Door {
    work::attach(door)
}

library_benchmark_group!(name = frames, benchmarks = [decode, decode_run, encode]);
library_benchmark_group!(name = hub, benchmarks = [route, deliver, confirm, attach]);

main!(
    // The counts are wanted, and not what a cache of some size would make of them.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [frames, hub]
);
