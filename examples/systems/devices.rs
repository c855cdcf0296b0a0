//! `device_controller` and `kiosk`.

use localhub_client::{Code, CommandId, ContentType, Payload};
use localhub_tests::process::{Process, until};
use serde_json::{Value, json};

use crate::{Hub, count, read_until};

const CHARGED: &str = r#"OK  payment-1 {"chargedCents":1250}"#;
const DECLINED: &str =
    r#"FAILED  payment-1 card_declined: over the limit of the card {"limitCents":10000}"#;

#[test]
fn a_command_that_a_kiosk_sends_twice_is_printed_once() {
    for format in [&[][..], &["--json"]] {
        let hub = Hub::start();
        let mut controller = hub.controller();
        let mut kiosk = hub.runs("kiosk", format);
        let (said, errors) = kiosk.rest();
        assert!(kiosk.ends().success(), "{said:#?} {errors:?}");

        assert_eq!(count(&said, "snapshot  "), 3, "{said:#?}");
        assert_eq!(count(&said, r#"OK  printer-1 {"pages":2}"#), 2, "{said:#?}");
        assert_eq!(count(&said, "sent twice, printed once"), 1, "{said:#?}");
        assert_eq!(
            count(&said, r#"OK  camera-1 {"file":"picture-1.jpg"}"#),
            1,
            "{said:#?}"
        );
        assert_eq!(count(&said, CHARGED), 1, "{said:#?}");
        assert_eq!(count(&said, DECLINED), 1, "{said:#?}");
        assert_eq!(
            count(&said, "REJECTED  camera-1 not_supported"),
            1,
            "{said:#?}"
        );
        assert_eq!(
            count(&said, "REJECTED  scanner-9 unknown_device"),
            1,
            "{said:#?}"
        );
        assert_eq!(count(&said, "event  printer-1 finished"), 1, "{said:#?}");
        assert_eq!(
            said[said.len() - 3..],
            [
                "at the end  camera-1 (camera) is idle, 1 done",
                "at the end  payment-1 (payment) is idle, 1 done",
                "at the end  printer-1 (printer) is idle, 1 done",
            ]
        );

        controller.kill();
        let (printed, _) = controller.rest();
        assert_eq!(count(&printed, "page 1 of 2"), 1, "{printed:#?}");
        assert_eq!(count(&printed, "page 2 of 2"), 1, "{printed:#?}");
    }
}

#[test]
fn a_kiosk_shows_the_types_of_devices_that_it_is_asked_for() {
    let hub = Hub::start();
    let _controller = hub.controller();
    let mut kiosk = hub.runs("kiosk", &["--devices", "printer,payment"]);
    let (said, errors) = kiosk.rest();
    assert!(kiosk.ends().success(), "{said:#?} {errors:?}");
    assert_eq!(count(&said, "snapshot  "), 2, "{said:#?}");
    assert_eq!(count(&said, "snapshot  camera-1"), 0, "{said:#?}");
    assert_eq!(count(&said, "at the end  "), 2, "{said:#?}");
}

#[test]
fn another_minor_version_is_understood_and_another_major_version_rejected() {
    let hub = Hub::start();
    let _controller = hub.controller();

    let mut newer = hub.runs("kiosk", &["--protocol-version", "1.7"]);
    let (said, errors) = newer.rest();
    assert!(newer.ends().success(), "{said:#?} {errors:?}");
    assert_eq!(count(&said, CHARGED), 1, "{said:#?}");

    let mut alien = hub.runs("kiosk", &["--protocol-version", "2.0"]);
    let (said, errors) = alien.rest();
    assert!(alien.ends().success(), "{said:#?} {errors:?}");
    let rejected = "version_mismatch: version 2.0 does not go with 1.0";
    assert_eq!(
        count(&said, &format!("REJECTED  printer-1 {rejected}")),
        2,
        "{said:#?}"
    );
    assert_eq!(
        count(&said, &format!("REJECTED  payment-1 {rejected}")),
        2,
        "{said:#?}"
    );
    assert_eq!(count(&said, "OK  "), 0, "{said:#?}");
}

#[test]
fn a_kiosk_is_told_that_the_outcome_is_unknown_when_the_controller_is_killed() {
    let hub = Hub::start();
    let mut controller = hub.runs("device_controller", &["--page-ms", "50"]);
    read_until(&controller, "serving");
    // It would print for a while.
    let mut kiosk = hub.runs("kiosk", &["--pages", "500"]);
    read_until(&controller, "page 1 of 500");

    // Events that are told again, as a controller may, are shown once.
    let client = hub.client("test");
    let devices = hub.runtime.block_on(client.join("devices")).unwrap();
    hub.runtime.block_on(async {
        for (id, kind, event) in [
            ("1", "event", "jammed"),
            ("1", "event", "jammed"),
            ("2", "kindOfANewerVersion", "melted"),
            ("3", "event", "unjammed"),
        ] {
            let event = json!({
                "protocolVersion": "1.3", "kind": kind, "timestampMs": 1, "fieldOfANewerVersion": 0,
                "eventId": id, "deviceId": "printer-1", "event": event,
            });
            let payload = Payload::json(&event).unwrap();
            devices
                .publish("device/printer/printer-1/event", payload)
                .await
                .unwrap();
        }
    });
    let said = read_until(&kiosk, "printer-1 unjammed");
    assert_eq!(
        count(&said, "state  printer-1 (printer) is busy"),
        1,
        "{said:#?}"
    );
    assert_eq!(count(&said, "event  printer-1 jammed"), 1, "{said:#?}");

    controller.kill();
    let (said, errors) = kiosk.rest();
    assert_eq!(kiosk.ends().code(), Some(1), "{said:#?} {errors:?}");
    assert_eq!(count(&said, "OK  "), 0, "{said:#?}");
    assert_eq!(count(&errors, "outcome_unknown"), 1, "{errors:#?}");

    // The states were the controller's.
    until("the states are gone", || {
        let states = hub.runtime.block_on(devices.snapshot("#")).unwrap();
        states.values.is_empty()
    });

    // Another one can take its place.
    let _next = hub.controller();
    let mut kiosk = hub.runs("kiosk", &[]);
    let (said, errors) = kiosk.rest();
    assert!(kiosk.ends().success(), "{said:#?} {errors:?}");
    assert_eq!(count(&said, "is idle, 0 done"), 3, "{said:#?}");
}

#[test]
fn the_states_are_there_again_with_the_next_broker() {
    let hub = Hub::start();
    let _controller = hub.controller();
    let hub = hub.starts_anew();
    let client = hub.client("test");
    let devices = hub.runtime.block_on(client.join("devices")).unwrap();
    until("there are three states", || {
        let states = hub
            .runtime
            .block_on(devices.snapshot("device/+/+/state"))
            .unwrap();
        states.values.len() == 3
    });
}

#[test]
fn messages_have_the_same_fields_in_cbor_and_in_json() {
    let hub = Hub::start();
    let _controller = hub.controller();
    let client = hub.client("test");
    let mut responses = Vec::new();
    for format in [ContentType::CBOR, ContentType::JSON] {
        let id = CommandId::new();
        let command = json!({
            "protocolVersion": "1.0", "kind": "command", "timestampMs": 1_700_000_000_000_u64,
            "commandId": id.to_string(), "deviceId": "payment-1",
            "action": { "name": "charge", "arguments": { "amountCents": 10_001 } },
        });
        let payload = match format {
            ContentType::JSON => Payload::json(&command).unwrap(),
            _ => Payload::cbor(&command).unwrap(),
        };
        let ask = || {
            let request = client.request("devices", "command").command_id(id);
            hub.runtime
                .block_on(request.payload(payload.clone()).send())
                .unwrap()
        };
        let reply = ask();
        assert_eq!(reply.content(), format);
        assert_eq!(
            reply.payload(),
            ask().payload(),
            "the same answer, byte for byte"
        );

        let request = client.request("devices", "command").command_id(id);
        let other = hub
            .runtime
            .block_on(request.payload("another command").send());
        assert_eq!(other.unwrap_err().code(), Some(Code::ID_REUSE));

        let mut response: Value = reply.decode().unwrap();
        assert_eq!(response["commandId"].take(), id.to_string());
        assert!(response["timestampMs"].take().as_u64() > Some(1_700_000_000_000));
        responses.push(response);
    }
    let expected = json!({
        "protocolVersion": "1.0", "kind": "response", "timestampMs": null,
        "commandId": null, "deviceId": "payment-1", "status": "FAILED",
        "error": {
            "code": "card_declined", "message": "over the limit of the card",
            "details": { "limitCents": 10_000 },
        },
    });
    assert_eq!(responses, [expected.clone(), expected]);
}

impl Hub {
    /// A controller that prints fast, and is ready.
    fn controller(&self) -> Process {
        let controller = self.runs("device_controller", &["--page-ms", "1"]);
        read_until(&controller, "serving");
        controller
    }
}
