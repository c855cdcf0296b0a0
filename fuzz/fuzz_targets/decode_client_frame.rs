//! What a client may send: any bytes are a frame or an error, and a frame has one encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use localhub_protocol::ClientFrame;

mod accepted;

fuzz_target!(|body: &[u8]| {
    let Ok(frame) = ClientFrame::decode(body) else {
        return;
    };
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    assert_eq!(accepted::alone(&wire), body, "{frame:?}");
    accepted::is_one_array(body);
});
