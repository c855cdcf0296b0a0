//! What holds for every frame that a decoder accepts.

use localhub_protocol::RawFrame;

/// The body of a frame that is alone in `wire`.
pub(crate) fn alone(wire: &[u8]) -> &[u8] {
    let (frame, rest) = RawFrame::split(wire, wire.len())
        .unwrap()
        .expect("a whole frame");
    assert!(rest.is_empty());
    frame.body()
}

/// Others who read CBOR see one array that begins with a number.
pub(crate) fn is_one_array(body: &[u8]) {
    let mut rest = body;
    let value: ciborium::Value = ciborium::from_reader(&mut rest).expect("CBOR");
    assert!(rest.is_empty());
    assert!(value.as_array().expect("an array")[0].is_integer());
}
