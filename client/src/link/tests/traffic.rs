//! What passes through a connection.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_ends_its_subscription() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let subscribing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        let messages = kiosk.subscribe_live("#").await?;
        Ok::<_, Error>((kiosk, messages))
    });
    broker.lets_subscribe().await;
    let (kiosk, messages) = subscribing.await.unwrap().unwrap();
    drop(messages);
    broker.expects(&["unsubscribe 7 #"]).await;

    let refused = tokio::time::timeout(Duration::from_millis(1), kiosk.subscribe("a")).await;
    refused.expect_err("the broker does not answer");
    broker
        .expects(&["subscribe 7 a retained", "unsubscribe 7 a"])
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_members_are_those_after_the_events_that_were_read() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let watching = tokio::spawn(async move { client.join("kiosk").await?.presence().await });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    broker.expects(&["watch 7 true"]).await;
    let member = |id, name| {
        let (client, status) = (ClientId(id), Status::Online);
        Member {
            client,
            name,
            status,
            state: &[],
        }
    };
    let (ana, bo) = (member(1, "ana"), member(5, "bo"));
    let members = vec![ana, bo];
    let (request, channel, more) = (2, KIOSK, false);
    broker
        .says(&[BrokerFrame::Members {
            request,
            channel,
            revision: 3,
            more,
            members,
        }])
        .await;
    let mut presence = watching.await.unwrap().unwrap();

    let changed = |revision, change, member| BrokerFrame::Presence {
        channel,
        revision,
        change,
        cause: None,
        member,
    };
    let cy = member(6, "cy");
    broker
        .says(&[changed(4, Change::Left, bo), changed(5, Change::Joined, cy)])
        .await;
    let names = |presence: &crate::Presence| -> Vec<_> {
        presence
            .members()
            .iter()
            .map(|member| member.name.to_string())
            .collect()
    };
    assert_eq!(names(&presence), ["ana", "bo"]);
    assert_eq!(presence.next().await.unwrap().change, Change::Left);
    assert_eq!(names(&presence), ["ana"]);
    assert_eq!(presence.next().await.unwrap().change, Change::Joined);
    assert_eq!(names(&presence), ["ana", "cy"]);

    drop(presence);
    broker.expects(&["watch 7 false"]).await;
}

#[tokio::test(start_paused = true)]
async fn messages_larger_than_any_buffer_pass_in_both_directions() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let subscribing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        let messages = kiosk.subscribe_live("#").await?;
        Ok::<_, Error>((kiosk, messages))
    });
    broker.lets_subscribe().await;
    let (kiosk, mut messages) = subscribing.await.unwrap().unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();

    broker.publishes(1, &large).await;
    broker.publishes(2, b"small").await;
    let message = messages.next().await.unwrap().unwrap();
    assert!(
        message.payload() == &large,
        "the payload is not what was sent"
    );
    assert_eq!(
        messages.next().await.unwrap().unwrap().text(),
        Some("small")
    );

    kiosk.publish("a", large.clone()).await.unwrap();
    let body = loop {
        let body = broker.frame().await;
        if !matches!(ClientFrame::decode(&body), Ok(ClientFrame::Ack { .. })) {
            break body;
        }
    };
    let Ok(ClientFrame::Message(message)) = ClientFrame::decode(&body) else {
        panic!("not a message");
    };
    assert!(
        message.payload() == large,
        "the payload is not what was published"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_reading_loses_nothing() {
    let (mut broker, client) = Broker::with_client(options().inbox_messages(2)).await;
    let subscribing =
        tokio::spawn(async move { client.join("kiosk").await?.subscribe_live("#").await });
    broker.lets_subscribe().await;
    let mut messages = subscribing.await.unwrap().unwrap();
    let reading = tokio::spawn(async move {
        for offset in 1..=500 {
            // Slower than the broker, but not by much.
            tokio::time::sleep(Duration::from_millis(1)).await;
            let message = messages.next().await.unwrap().expect("nothing is lost");
            assert_eq!(message.offset(), offset);
        }
    });
    for offset in 1..=500 {
        broker.publishes(offset, b"x").await;
    }
    reading.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stopped_costs_a_moment_once_and_is_told_what_it_lost() {
    let (mut broker, client) = Broker::with_client(options().inbox_messages(10)).await;
    let subscribing =
        tokio::spawn(async move { client.join("kiosk").await?.subscribe_live("#").await });
    broker.lets_subscribe().await;
    let mut messages = subscribing.await.unwrap().unwrap();
    let began = Instant::now();
    for offset in 1..=500 {
        broker.publishes(offset, b"x").await;
    }
    broker
        .says(&[BrokerFrame::Ping {
            nonce: 1,
            received: 2,
        }])
        .await;
    broker.expects(&["pong 1, ack 502"]).await;
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "took {:?}",
        began.elapsed()
    );
    let gap = messages.next().await.unwrap().unwrap_err();
    assert_eq!(gap.lost, Some(490));
    for offset in 491..=500 {
        assert_eq!(messages.next().await.unwrap().unwrap().offset(), offset);
    }
}

#[tokio::test(start_paused = true)]
async fn a_publisher_waits_for_the_broker_and_goes_on() {
    let (mut broker, client) = Broker::with_client(options().unconfirmed_bytes(1)).await;
    let publishing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        kiosk.publish("a", "one").await?;
        kiosk.publish("a", "two").await?;
        Ok::<_, Error>(())
    });
    broker.expects(&["join kiosk []"]).await;
    let joined = BrokerFrame::Joined {
        request: 1,
        channel: KIOSK,
        offset: 0,
    };
    broker
        .says(&[joined, BrokerFrame::Ack { received: 1 }])
        .await;
    broker.expects(&["publish 7 a one", "ping 2, ack 1"]).await;
    assert!(
        !publishing.is_finished(),
        "the first message takes all the room"
    );
    broker
        .says(&[BrokerFrame::Pong {
            nonce: 2,
            received: 2,
        }])
        .await;
    broker.expects(&["publish 7 a two"]).await;
    publishing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_does_not_read_is_waited_for() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let subscribing = tokio::spawn(async move {
        let kiosk = client.join("kiosk").await?;
        let messages = kiosk.subscribe_live("#").await?;
        Ok::<_, Error>((kiosk, messages))
    });
    broker.lets_subscribe().await;
    let (kiosk, _messages) = subscribing.await.unwrap().unwrap();
    let text = "x".repeat(100);
    for _ in 0..100 {
        kiosk.publish("a", text.clone()).await.unwrap();
    }
    // There is something to confirm, too, and its time passes.
    broker.publishes(1, b"x").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let expected = format!("publish 7 a {text}");
    for _ in 0..100 {
        broker.expects(&[&expected]).await;
    }
}
