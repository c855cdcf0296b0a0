//! Times each piece of work, for people: `cargo bench --bench time`.

use divan::Bencher;
use guards::work;

fn main() {
    divan::main();
}

/// Times `work` on what `from` makes; neither that nor what comes of it is timed.
fn time<T, U>(bencher: Bencher<'_, '_>, from: impl Fn() -> T + Sync, work: impl Fn(T) -> U + Sync) {
    bencher.with_inputs(from).bench_values(work);
}

#[divan::bench]
fn decode_publish(bencher: Bencher<'_, '_>) {
    time(bencher, work::publish_frame, work::decode_publish);
}

#[divan::bench]
fn decode_run(bencher: Bencher<'_, '_>) {
    time(bencher, work::run_header, work::decode_run);
}

#[divan::bench]
fn encode_publish(bencher: Bencher<'_, '_>) {
    time(bencher, work::room, work::encode_publish);
}

#[divan::bench]
fn route_remembered(bencher: Bencher<'_, '_>) {
    time(bencher, work::remembered_route, work::route);
}

#[divan::bench]
fn route_unknown(bencher: Bencher<'_, '_>) {
    time(bencher, work::unknown_route, work::route);
}

#[divan::bench(args = [1, 8])]
fn deliver_one(bencher: Bencher<'_, '_>, receivers: usize) {
    time(bencher, || work::one_publish(receivers), work::deliver);
}

#[divan::bench(args = [1, 8])]
fn deliver_run(bencher: Bencher<'_, '_>, receivers: usize) {
    time(bencher, || work::many_publishes(receivers), work::deliver);
}

#[divan::bench(args = [1, 8])]
fn deliver_alternating(bencher: Bencher<'_, '_>, receivers: usize) {
    time(
        bencher,
        || work::alternating_publishes(receivers),
        work::deliver,
    );
}

#[divan::bench]
fn deliver_direct(bencher: Bencher<'_, '_>) {
    time(bencher, work::one_direct, work::deliver);
}

#[divan::bench]
fn confirm_many(bencher: Bencher<'_, '_>) {
    time(bencher, work::many_unconfirmed, work::confirm);
}

#[divan::bench]
fn attach_newcomer(bencher: Bencher<'_, '_>) {
    time(bencher, work::newcomer, work::attach);
}

#[divan::bench]
fn attach_returner(bencher: Bencher<'_, '_>) {
    time(bencher, work::returner, work::attach);
}
