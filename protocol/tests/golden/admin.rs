use std::collections::BTreeSet;
use std::fmt::Debug;

use ciborium::Value as Cbor;
use localhub_protocol::admin::{
    self, ChannelView, Channels, ClientView, Clients, Closed, HubView, Named, Page, Services,
    Sessions,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::vectors::{self, Admin, bytes_of, hex_of};

/// The value of a vector as CBOR; `{"hex": ".."}` is a byte string.
fn cbor(value: &Json) -> Cbor {
    match value {
        Json::Null => Cbor::Null,
        Json::Bool(flag) => Cbor::Bool(*flag),
        Json::Number(number) => Cbor::from(number.as_u64().expect("numbers are not negative")),
        Json::String(text) => Cbor::from(text.as_str()),
        Json::Array(items) => Cbor::Array(items.iter().map(cbor).collect()),
        Json::Object(fields) => match fields.get("hex").and_then(Json::as_str) {
            Some(hex) => Cbor::Bytes(bytes_of(hex).expect("hexadecimal")),
            None => Cbor::Map(
                fields
                    .iter()
                    .map(|(name, value)| (Cbor::from(name.as_str()), cbor(value)))
                    .collect(),
            ),
        },
    }
}

fn check<T: DeserializeOwned + Serialize + PartialEq + Debug>(vector: &Admin) {
    let expected: T = cbor(&vector.value).deserialized().unwrap();
    assert_eq!(
        admin::decode::<T>(&vector.payload),
        Ok(expected),
        "{}",
        vector.name
    );
    let decoded: T = admin::decode(&vector.payload).unwrap();
    assert_eq!(
        hex_of(&admin::encode(&decoded)),
        hex_of(&vector.payload),
        "{}",
        vector.name
    );
}

// protocol.md 13
#[test]
fn an_admin_payload_is_its_value_byte_for_byte() {
    let mut shapes = BTreeSet::new();
    for vector in vectors::admin() {
        match vector.shape.as_str() {
            "page" => check::<Page>(&vector),
            "named" => check::<Named>(&vector),
            "hub_view" => check::<HubView>(&vector),
            "clients" => check::<Clients>(&vector),
            "client_view" => check::<ClientView>(&vector),
            "sessions" => check::<Sessions>(&vector),
            "closed" => check::<Closed>(&vector),
            "channels" => check::<Channels>(&vector),
            "channel_view" => check::<ChannelView>(&vector),
            "services" => check::<Services>(&vector),
            other => panic!("no shape: {other}"),
        }
        shapes.insert(vector.shape);
    }
    assert_eq!(shapes.len(), 10, "{shapes:?}");
}

// protocol.md 13
#[test]
fn fields_of_a_newer_minor_are_passed_over() {
    for vector in vectors::admin() {
        let Cbor::Map(mut fields) = cbor(&vector.value) else {
            panic!("answers are maps")
        };
        fields.push((
            Cbor::from("of_a_newer_minor"),
            Cbor::Array(vec![Cbor::Null]),
        ));
        let payload = admin::encode(&Cbor::Map(fields));
        match vector.shape.as_str() {
            "hub_view" => drop(admin::decode::<HubView>(&payload).unwrap()),
            "client_view" => drop(admin::decode::<ClientView>(&payload).unwrap()),
            "channel_view" => drop(admin::decode::<ChannelView>(&payload).unwrap()),
            "page" => drop(admin::decode::<Page>(&payload).unwrap()),
            _ => {}
        }
    }
}

// protocol.md 13
#[test]
fn a_page_without_arguments_is_the_first() {
    assert_eq!(admin::decode::<Page>(&[0xa0]), Ok(Page::default()));
}
