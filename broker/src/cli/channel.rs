//! `localhub channel`.

use localhub_client::admin::{
    ChannelSummary, ChannelView, MemberView, RetainedView, SettingsView, SubscriptionView,
};
use localhub_client::{ChannelName, ContentType};
use serde::Serialize;

use super::Globals;
use super::shared::content::{self, PayloadFields};
use super::shared::exit::Exit;
use super::shared::list::tell_left_out;
use super::shared::output::Output;
use super::shared::table::{Column, Table};
use super::shared::units::{bytes, count, duration, full};
use super::shared::{block_on, link};

/// Show one channel in full: members, filters, retained topics, history
#[derive(clap::Args, Debug)]
#[command(
    before_help = "Examples:\n  localhub channel kiosk\n  localhub channel kiosk --json | jq .members"
)]
pub(crate) struct Args {
    /// Its name
    channel: ChannelName,
}

/// As much of a presence state as a table has room for.
const STATE_LENGTH_MAX: usize = 200;

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let view = link::channel_named(&client, &args.channel).await?;
        link::close(client).await;
        let mut out = Output::new(globals.json);
        if out.is_json() {
            out.object(&Object::new(&view))?;
        } else {
            write(&mut out, &view)?;
        }
        out.flush()?;
        Ok(Exit::Done)
    })
}

fn write(out: &mut Output, view: &ChannelView) -> anyhow::Result<()> {
    out.line(heading(view))?;
    let tables = [
        (!view.members.is_empty()).then(|| members(&view.members)),
        (!view.retained.is_empty()).then(|| retained(&view.retained)),
    ];
    let mut all_left_out = Vec::new();
    for table in tables.into_iter().flatten() {
        let (fitted, left_out) = table.fitted(out.columns());
        out.line(format_args!("\n{fitted}"))?;
        all_left_out.extend(left_out);
    }
    out.flush()?;
    tell_left_out(&all_left_out);
    Ok(())
}

fn heading(view: &ChannelView) -> String {
    let ChannelSummary {
        name,
        members,
        subscriptions,
        offset,
        retained,
        retained_bytes,
        history,
        history_bytes,
    } = &view.summary;
    let hidden = view.members.iter().filter(|member| member.hidden).count() as u64;
    let hidden = if hidden > 0 {
        format!(", {hidden} hidden")
    } else {
        String::new()
    };
    let kept = match kept_at_most(&view.settings) {
        Some(kept) => format!(
            "{}, {}, of at most {kept}",
            count(*history, "message"),
            bytes(*history_bytes)
        ),
        None => "none".into(),
    };
    let debounce = match view.settings.debounce_ms {
        0 => String::new(),
        ms => format!("\naway      told after {}", duration(ms)),
    };
    format!(
        "{name}\n\
         members   {}{hidden}\n\
         filters   {}\n\
         messages  {}\n\
         retained  {}, {}\n\
         history   {kept}{debounce}",
        full(*members),
        full(*subscriptions),
        full(*offset),
        count(*retained, "topic"),
        bytes(*retained_bytes)
    )
}

/// The bounds of a channel's history, if it has one.
pub(super) fn kept_at_most(settings: &SettingsView) -> Option<String> {
    (settings.history_messages > 0).then(|| {
        format!(
            "{}, {}, for {}",
            count(settings.history_messages, "message"),
            bytes(settings.history_bytes),
            duration(settings.history_age_ms)
        )
    })
}

fn members(members: &[MemberView]) -> Table {
    let mut table = Table::new([
        Column::text("MEMBER").cut_to(10),
        Column::number("ID"),
        Column::text("STATE"),
        Column::text("FILTERS").cut_to(8).spare(1),
        Column::text("PRESENCE").cut_to(10).spare(2),
    ]);
    for member in members {
        let state = match member.hidden {
            true => format!("{}, hidden", member.state),
            false => member.state.clone(),
        };
        let presence = match member.presence.is_empty() {
            true => String::new(),
            false => content::shown(ContentType::CBOR, &member.presence, STATE_LENGTH_MAX),
        };
        table.row([
            member.name.clone(),
            member.id.to_string(),
            state,
            filters(&member.filters),
            presence,
        ]);
    }
    table
}

/// Subscriptions in one line, with the policies that are not the usual one.
pub(super) fn filters(held: &[SubscriptionView]) -> String {
    let shown = held.iter().map(|held| match held.policy.as_str() {
        "drop_oldest" => held.filter.clone(),
        policy => format!("{} ({policy})", held.filter),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn retained(values: &[RetainedView]) -> Table {
    let mut table = Table::new([
        Column::text("TOPIC").cut_to(12),
        Column::number("SIZE"),
        Column::text("CONTENT").spare(1),
        Column::number("OFFSET").spare(2),
        Column::text("FROM").cut_to(8).spare(3),
    ]);
    for value in values {
        table.row([
            value.topic.clone(),
            bytes(value.bytes),
            ContentType(value.content).name().into(),
            full(value.offset),
            value.sender.clone(),
        ]);
    }
    table
}

/// A channel for programs: as the broker says, with presence states in JSON.
#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    summary: &'a ChannelSummary,
    settings: &'a SettingsView,
    members: Vec<MemberObject<'a>>,
    retained_values: Vec<RetainedObject<'a>>,
}

#[derive(Serialize)]
struct MemberObject<'a> {
    id: u64,
    name: &'a str,
    state: &'a str,
    hidden: bool,
    filters: &'a [SubscriptionView],
    presence: Option<PayloadFields>,
}

#[derive(Serialize)]
struct RetainedObject<'a> {
    topic: &'a str,
    bytes: u64,
    content: &'static str,
    sender: &'a str,
    offset: u64,
}

impl<'a> Object<'a> {
    fn new(view: &'a ChannelView) -> Self {
        let member = |member: &'a MemberView| MemberObject {
            id: member.id.0,
            name: &member.name,
            state: &member.state,
            hidden: member.hidden,
            filters: &member.filters,
            presence: (!member.presence.is_empty())
                .then(|| PayloadFields::new(ContentType::CBOR, &member.presence)),
        };
        let value = |value: &'a RetainedView| RetainedObject {
            topic: &value.topic,
            bytes: value.bytes,
            content: ContentType(value.content).name(),
            sender: &value.sender,
            offset: value.offset,
        };
        Self {
            summary: &view.summary,
            settings: &view.settings,
            members: view.members.iter().map(member).collect(),
            retained_values: view.retained.iter().map(value).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use localhub_client::ClientId;

    fn view() -> ChannelView {
        let member = |id, name: &str, hidden, presence: &[u8]| MemberView {
            id: ClientId(id),
            name: name.into(),
            state: "online".into(),
            hidden,
            filters: [("device/#", "drop_oldest"), ("ui/+", "latest")]
                .map(|(filter, policy)| SubscriptionView {
                    filter: filter.into(),
                    policy: policy.into(),
                })
                .into(),
            presence: presence.into(),
        };
        ChannelView {
            summary: ChannelSummary {
                name: "kiosk".into(),
                members: 2,
                subscriptions: 4,
                offset: 1_204,
                retained: 1,
                retained_bytes: 31,
                history: 5,
                history_bytes: 900,
            },
            settings: SettingsView {
                history_messages: 1_000,
                history_bytes: 1 << 20,
                history_age_ms: 600_000,
                debounce_ms: 2_000,
            },
            members: vec![
                member(3, "ui-1", false, &[0xa1, 0x61, b'a', 0x62, 0x1b, b'm']),
                member(17, "client-17", true, &[]),
            ],
            retained: vec![RetainedView {
                topic: "device/größe".into(),
                bytes: 31,
                content: 2,
                sender: "printer".into(),
                offset: 1_200,
            }],
        }
    }

    #[test]
    fn a_channel_is_shown_with_its_members_and_values() {
        let view = view();
        assert_eq!(
            heading(&view),
            "kiosk\nmembers   2, 1 hidden\nfilters   4\nmessages  1,204\nretained  1 topic, 31 B\nhistory   5 messages, 900 B, of at most 1,000 messages, 1 MiB, for 10 min\naway      told after 2.0 s"
        );
        let plain = ChannelView {
            settings: SettingsView::default(),
            ..view.clone()
        };
        assert!(heading(&plain).ends_with("\nhistory   none"));
        let expected = "\
MEMBER     ID  STATE           FILTERS                 PRESENCE
ui-1        3  online          device/# ui/+ (latest)  {\"a\": \"\\u{1b}m\"}
client-17  17  online, hidden  device/# ui/+ (latest)";
        assert_eq!(members(&view.members).fitted(None).0.to_string(), expected);
        let expected = "\
TOPIC         SIZE  CONTENT  OFFSET  FROM
device/größe  31 B  json      1,200  printer";
        assert_eq!(
            retained(&view.retained).fitted(None).0.to_string(),
            expected
        );
    }

    #[test]
    fn programs_get_presence_states_as_json() {
        let object = serde_json::to_value(Object::new(&view())).unwrap();
        assert_eq!(object["name"], "kiosk");
        assert_eq!(object["settings"]["history_messages"], 1_000);
        assert_eq!(object["members"][0]["presence"]["payload"]["a"], "\u{1b}m");
        assert!(object["members"][1]["presence"].is_null());
        assert_eq!(object["retained_values"][0]["content"], "json");
    }
}
