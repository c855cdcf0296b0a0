//! `localhub client`.

use std::iter;

use localhub_client::admin::{self, ClientView};

use super::Globals;
use super::channel::filters;
use super::shared::exit::Exit;
use super::shared::output::Output;
use super::shared::units::{bytes, count, duration, full};
use super::shared::{block_on, link};

use localhub::logging::escaped;

/// Show one client in full
#[derive(clap::Args, Debug)]
#[command(before_help = "Examples:\n  localhub client kiosk-ui\n  localhub client 17 --json")]
pub(crate) struct Args {
    /// Its name or id
    #[arg(value_name = "NAME|ID")]
    client: String,
}

pub(crate) fn run(args: Args, globals: &Globals) -> anyhow::Result<Exit> {
    block_on(async {
        let client = globals.connect().await?;
        let view = link::client_named(&client, admin::CLIENT, &args.client).await?;
        link::close(client).await;
        let mut out = Output::new(globals.json);
        if out.is_json() {
            out.object(&view)?;
        } else {
            out.line(text(&view))?;
        }
        out.flush()?;
        Ok(Exit::Done)
    })
}

fn text(client: &ClientView) -> String {
    let mut lines = vec![
        format!("{}, id {}", client.name, client.id),
        match client.away_ms {
            Some(away_ms) => format!("state     {} for {}", client.state, duration(away_ms)),
            None => format!("state     {}", client.state),
        },
        format!("since     {} ago", duration(client.age_ms)),
        match client.pid {
            Some(pid) => format!("process   {pid}"),
            None => "process   unknown".into(),
        },
        format!(
            "program   {}",
            client.executable.as_deref().unwrap_or("unknown")
        ),
        format!("user      {}", client.user),
        format!(
            "sent      {}, {}",
            count(client.messages_in, "message"),
            bytes(client.bytes_in)
        ),
        format!(
            "received  {}, {}",
            count(client.messages_out, "message"),
            bytes(client.bytes_out)
        ),
        format!(
            "waiting   {}, {}",
            count(client.queued_messages, "message"),
            bytes(client.queued_bytes)
        ),
        format!("lost      {}", lost(client)),
        format!(
            "position  {} queued, {} sent, {} confirmed",
            full(client.queued),
            full(client.sent),
            full(client.confirmed)
        ),
    ];
    lines.push(match &client.last_refusal {
        Some(refusal) => {
            format!(
                "refused   {}, the last one {refusal}",
                count(client.refused, "message")
            )
        }
        None => "refused   nothing".into(),
    });
    if client.memberships.is_empty() {
        lines.push("channels  none".into());
    }
    let titles = iter::once("channels").chain(iter::repeat(""));
    for (title, membership) in titles.zip(&client.memberships) {
        let filters = match filters(&membership.filters) {
            none if none.is_empty() => "no filters".into(),
            filters => filters,
        };
        lines.push(format!("{title:<8}  {}: {filters}", membership.channel));
    }
    lines
        .iter()
        .map(|line| escaped(line))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What the client missed: against its will, and because a subscription wants only the latest.
fn lost(client: &ClientView) -> String {
    let mut lost = Vec::new();
    if client.messages_lost > 0 {
        let messages = count(client.messages_lost, "message");
        lost.push(format!("{messages} in {}", count(client.gaps, "gap")));
    }
    if client.messages_conflated > 0 {
        let conflated = full(client.messages_conflated);
        lost.push(format!("{conflated} made way for newer ones"));
    }
    match lost.is_empty() {
        true => "nothing".into(),
        false => lost.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use localhub_client::admin::{MembershipView, SubscriptionView};

    use super::super::clients::tests::some_client;
    use super::*;

    #[test]
    fn a_client_is_shown_in_full() {
        let expected = "\
kiosk-ui, id 3
state     online
since     2 h 5 min ago
process   4711
program   /opt/kiosk/flutter-kiosk
user      uid 1000
sent      1,204 messages, 303 KiB
received  48,160 messages, 8.6 MiB
waiting   2 messages, 230 B
lost      7 messages in 2 gaps, 40 made way for newer ones
position  48,160 queued, 48,160 sent, 48,158 confirmed
refused   nothing
channels  kiosk: device/# (latest) ui/+
          ops: #";
        let subscription = |filter: &str, policy: &str| SubscriptionView {
            filter: filter.into(),
            policy: policy.into(),
        };
        let membership = |channel: &str, filters| MembershipView {
            channel: channel.into(),
            filters,
        };
        let client = ClientView {
            messages_lost: 7,
            messages_conflated: 40,
            gaps: 2,
            memberships: vec![
                membership(
                    "kiosk",
                    vec![
                        subscription("device/#", "latest"),
                        subscription("ui/+", "drop_oldest"),
                    ],
                ),
                membership("ops", vec![subscription("#", "drop_oldest")]),
            ],
            ..some_client()
        };
        assert_eq!(text(&client), expected);

        let quiet = ClientView {
            memberships: vec![membership("kiosk", vec![])],
            ..some_client()
        };
        let text = text(&quiet);
        assert!(text.contains("\nlost      nothing\n"), "{text}");
        assert!(text.ends_with("\nchannels  kiosk: no filters"), "{text}");
    }

    #[test]
    fn what_a_client_says_cannot_change_the_screen() {
        let client = ClientView {
            executable: Some("/tmp/\u{1b}[2J\nname".into()),
            away_ms: Some(12_000),
            refused: 1,
            last_refusal: Some("outbox_full".into()),
            ..some_client()
        };
        let text = text(&client);
        assert_eq!(text.lines().count(), 13, "{text}");
        assert!(text.contains(r"program   /tmp/\u{1b}[2J\nname"), "{text}");
        assert!(
            text.contains("refused   1 message, the last one outbox_full"),
            "{text}"
        );
    }
}
