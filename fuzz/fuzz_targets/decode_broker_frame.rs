//! What the broker may send: any bytes are a frame or an error, and a frame has one encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use localhub_protocol::BrokerFrame;

mod accepted;

fuzz_target!(|body: &[u8]| {
    let Ok(frame) = BrokerFrame::decode(body) else {
        return;
    };
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    let again = accepted::alone(&wire);
    // A newer minor may tell more limits, which are passed over.
    if matches!(frame, BrokerFrame::Welcome(_)) && again.len() < body.len() {
        assert_eq!(BrokerFrame::decode(again).as_ref(), Ok(&frame));
    } else {
        assert_eq!(again, body, "{frame:?}");
    }
    accepted::is_one_array(body);
});
