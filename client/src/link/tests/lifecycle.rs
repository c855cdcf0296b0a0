//! How connections come, go and come back.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_is_who_the_broker_says() {
    let (_broker, client) = Broker::with_client(options()).await;
    assert_eq!((client.id(), client.name().as_str()), (ClientId(1), "ana"));
    let connected = ConnectionState::Connected {
        resumed: None,
        session: 1,
    };
    assert_eq!(client.connection().current(), connected);
}

#[tokio::test(start_paused = true)]
async fn the_first_connection_fails_with_what_is_wrong() {
    let (mut broker, pipes) = Broker::new();
    let connecting = tokio::spawn(options().connect_with(endpoint(), pipes.clone()));
    broker.expects_hello(false).await;
    broker.closes(Code::NAME_TAKEN).await;
    let error = connecting.await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Closed {
                code: Some(Code::NAME_TAKEN),
                ..
            }
        ),
        "{error}"
    );

    broker.fails();
    let error = options()
        .connect_with(endpoint(), pipes.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotRunning { .. }), "{error}");

    broker.drops_connection();
    let connecting = tokio::spawn(options().connect_with(endpoint(), pipes.clone()));
    broker
        .stream
        .write_all(b"220 mail.example.com ESMTP")
        .await
        .unwrap();
    let error = connecting.await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");

    broker.drops_connection();
    let began = Instant::now();
    let error = options()
        .connect_with(endpoint(), pipes.clone())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));

    let error = options()
        .name("Ana")
        .connect_with(endpoint(), pipes)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::BadName { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_comes_back_with_what_was_sent_meanwhile() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut states = client.connection();
    assert_eq!(
        next_state(&mut states).await,
        ConnectionState::Connected {
            resumed: None,
            session: 1,
        }
    );
    let joining = tokio::spawn(async move { client.join("kiosk").await });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    let kiosk = joining.await.unwrap().unwrap();
    kiosk.publish("a", "one").await.unwrap();
    broker.expects(&["publish 7 a one"]).await;

    broker.drops_connection();
    let lost = next_state(&mut states).await;
    assert!(
        matches!(lost, ConnectionState::Disconnected { .. }),
        "{lost:?}"
    );
    kiosk.publish("a", "two").await.unwrap();
    broker.resumes(1).await;
    broker
        .expects(&["publish 7 a one", "publish 7 a two"])
        .await;
    let back = next_state(&mut states).await;
    let resumed = Resumed {
        recovered: true,
        replayed: 0,
        lost: Some(0),
    };
    assert_eq!(
        back,
        ConnectionState::Connected {
            resumed: Some(resumed),
            session: 1,
        }
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_to_reconnect_are_made_in_growing_distances() {
    let backoff = (Duration::from_millis(100), Duration::from_secs(2));
    let (mut broker, client) = Broker::with_client(options().backoff(backoff.0, backoff.1)).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    (0..12).for_each(|_| broker.fails());
    broker.drops_connection();
    let mut waits = Vec::new();
    loop {
        match next_state(&mut states).await {
            ConnectionState::Disconnected { retry_in, .. } => waits.push(retry_in),
            ConnectionState::Connected { .. } => break,
            state => panic!("{state:?}"),
        }
        if waits.len() == 13 {
            broker.resumes(0).await;
        }
    }
    let bounds = (0..13).map(|n| (backoff.0 * (1 << n)).min(backoff.1));
    for (n, (wait, bound)) in waits.iter().zip(bounds).enumerate() {
        assert!(
            *wait <= bound,
            "wait {n} is {wait:?}, its bound is {bound:?}"
        );
    }
    let total: Duration = waits.iter().sum();
    assert!(
        total > backoff.0 * 4,
        "they are not all near zero: {waits:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_kicked_does_not_come_back() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut directs = client.directs();
    let mut states = client.connection();
    next_state(&mut states).await;
    broker.closes(Code::KICKED).await;
    let ConnectionState::Closed { code, reason } = next_state(&mut states).await else {
        panic!("the client tries to come back");
    };
    assert_eq!(code, Some(Code::KICKED));
    assert_eq!(reason, "an operator ended the session: by test");
    assert!(states.next().await.is_none());
    assert!(directs.next().await.is_none());
    let error = client.join("kiosk").await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Closed {
                code: Some(Code::KICKED),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reason_can_be_read_even_if_nothing_can_be_written_any_more() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    broker.closes(Code::KICKED).await;
    drop(broker);
    // The link now has something to write and something to read; the write fails.
    client.admin::<(), ()>("status", &()).await.unwrap_err();
    let ConnectionState::Closed { code, .. } = next_state(&mut states).await else {
        panic!("the reason got lost");
    };
    assert_eq!(code, Some(Code::KICKED));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_stops_is_left_alone_for_as_long_as_it_asks() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    let (code, delay_ms) = (Code::SHUTTING_DOWN, 30_000);
    broker.says(&[BrokerFrame::GoAway { code, delay_ms }]).await;
    broker.closes(Code::SHUTTING_DOWN).await;
    let began = Instant::now();
    let lost = next_state(&mut states).await;
    assert!(
        matches!(lost, ConnectionState::Disconnected { .. }),
        "{lost:?}"
    );
    broker.drops_connection();
    broker.resumes(0).await;
    assert!(began.elapsed() >= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_pinged_and_then_replaced() {
    let (mut broker, _client) = Broker::with_client(options()).await;
    let began = Instant::now();
    broker.expects(&["ping 0, ack 0"]).await;
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    broker.expects_end().await;
    assert_eq!(began.elapsed(), Duration::from_secs(20));
    broker.drops_connection();
    broker.resumes(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_spent_token_is_not_tried_twice() {
    let (mut broker, client) = Broker::with_client(options()).await;
    broker.drops_connection();
    broker.expects_hello(true).await;
    broker.closes(Code::BAD_TOKEN).await;
    broker.drops_connection();
    let began = Instant::now();
    broker.expects_hello(false).await;
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "there is nothing to wait for"
    );

    // The broker has not yet noticed that the old connection is gone.
    broker.closes(Code::NAME_TAKEN).await;
    broker.drops_connection();
    broker.expects_hello(false).await;
    broker.welcomes(2, None, 0).await;
    let mut states = client.connection();
    while !matches!(
        next_state(&mut states).await,
        ConnectionState::Connected { .. }
    ) {}
    assert_eq!(client.id(), ClientId(2));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_somebody_else_keeps_ends_the_client() {
    let (mut broker, client) = Broker::with_client(options().resume(false)).await;
    let mut states = client.connection();
    let mut attempts = 0;
    next_state(&mut states).await;
    broker.drops_connection();
    loop {
        match next_state(&mut states).await {
            ConnectionState::Disconnected { .. } => {
                attempts += 1;
                broker.expects_hello(false).await;
                broker.closes(Code::NAME_TAKEN).await;
                broker.drops_connection();
            }
            ConnectionState::Closed { code, .. } => {
                assert_eq!(code, Some(Code::NAME_TAKEN));
                break;
            }
            state => panic!("{state:?}"),
        }
    }
    assert!(attempts > 5, "it could have been an own connection");
}

#[tokio::test(start_paused = true)]
async fn without_reconnect_the_first_loss_is_the_end() {
    let (mut broker, client) = Broker::with_client(options().reconnect(false)).await;
    let mut states = client.connection();
    next_state(&mut states).await;
    broker.drops_connection();
    let ConnectionState::Closed { code: None, reason } = next_state(&mut states).await else {
        panic!("the client tries to come back");
    };
    assert_eq!(reason, "the broker is gone");
}

#[tokio::test(start_paused = true)]
async fn closing_flushes_and_says_goodbye() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let joining = tokio::spawn({
        let client = client.clone();
        async move { client.join("kiosk").await }
    });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    let kiosk = joining.await.unwrap().unwrap();
    kiosk.publish("a", "last words").await.unwrap();
    let closing = tokio::spawn(client.close());
    broker
        .expects(&["publish 7 a last words", "ping 2, ack 1"])
        .await;
    broker
        .says(&[BrokerFrame::Pong {
            nonce: 2,
            received: 2,
        }])
        .await;
    broker.expects(&["close goodbye"]).await;
    broker.expects_end().await;
    closing.await.unwrap().unwrap();
    let error = kiosk.publish("a", "more").await.unwrap_err();
    assert!(matches!(error, Error::Closed { code: None, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn closing_without_a_connection_says_whether_something_was_left() {
    for publishes in [false, true] {
        let (mut broker, client) = Broker::with_client(options()).await;
        let mut states = client.connection();
        next_state(&mut states).await;
        let joining = tokio::spawn({
            let client = client.clone();
            async move { client.join("kiosk").await }
        });
        broker.expects(&["join kiosk []"]).await;
        let joined = BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        };
        broker
            .says(&[
                joined,
                BrokerFrame::Pong {
                    nonce: 1,
                    received: 1,
                },
            ])
            .await;
        let kiosk = joining.await.unwrap().unwrap();

        broker.stream = tokio::io::duplex(1).0;
        let lost = next_state(&mut states).await;
        assert!(
            matches!(lost, ConnectionState::Disconnected { .. }),
            "{lost:?}"
        );
        if publishes {
            kiosk.publish("a", "too late").await.unwrap();
        }
        match client.close().await {
            Ok(()) => assert!(!publishes, "nobody got the message"),
            Err(Error::Disconnected) => assert!(publishes, "there was nothing to flush"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_session_with_it() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let directs = client.directs();
    let other = client.clone();
    drop(client);
    drop(other);
    broker
        .says(&[BrokerFrame::Ping {
            nonce: 1,
            received: 0,
        }])
        .await;
    broker.expects(&["pong 1, ack 0"]).await;
    drop(directs);
    broker.expects(&["close goodbye"]).await;
    broker.expects_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_closes_in_time_though_the_broker_does_not_read() {
    let (mut broker, client) = Broker::with_client(options()).await;
    let joining = tokio::spawn({
        let client = client.clone();
        async move { client.join("kiosk").await }
    });
    broker.expects(&["join kiosk []"]).await;
    broker
        .says(&[BrokerFrame::Joined {
            request: 1,
            channel: KIOSK,
            offset: 0,
        }])
        .await;
    let kiosk = joining.await.unwrap().unwrap();
    kiosk.publish("a", vec![0; 10_000]).await.unwrap();
    let began = Instant::now();
    let error = client.close().await.unwrap_err();
    assert!(matches!(error, Error::Disconnected), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
}

#[test]
fn a_client_whose_runtime_is_gone_says_so() {
    let first = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (_broker, client) = first.block_on(Broker::with_client(options()));
    drop(first);
    let second = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = second.block_on(client.join("kiosk")).unwrap_err();
    assert!(matches!(error, Error::Closed { code: None, .. }), "{error}");
}
