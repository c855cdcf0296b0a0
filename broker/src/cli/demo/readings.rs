//! What the sidecar of the demo reads from this machine.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use sysinfo::{Disks, Networks, System};

/// One reading, the retained value of its topic.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Reading {
    /// How busy a processor is, from 0 to 1.
    Load(f32),
    /// How full something is, in bytes.
    Space { used: u64, total: u64 },
    /// What went through a network interface, in bytes per second.
    Traffic { received: u64, sent: u64 },
}

/// The machine, between two rounds of readings.
pub(super) struct Machine {
    system: System,
    disks: Disks,
    networks: Networks,
    last_round: Instant,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            system: System::new(),
            disks: Disks::new_with_refreshed_list(),
            networks: Networks::new_with_refreshed_list(),
            last_round: Instant::now(),
        }
    }

    /// Reads everything once: topics and values.
    pub(super) fn round(&mut self) -> Vec<(String, Reading)> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.disks.refresh(false);
        self.networks.refresh(false);
        let elapsed = self.last_round.elapsed().as_secs_f64();
        self.last_round = Instant::now();

        let load = |percent: f32| Reading::Load(percent / 100.0);
        let rate = |bytes: u64| {
            if elapsed > 0.0 {
                (bytes as f64 / elapsed) as u64
            } else {
                0
            }
        };
        let cpus = self.system.cpus().iter().zip(0..);
        let cpus = cpus.map(|(cpu, number)| (format!("cpu/{number}"), load(cpu.cpu_usage())));
        let disks = self.disks.iter().map(|disk| {
            let total = disk.total_space();
            let used = total.saturating_sub(disk.available_space());
            (
                topic("disk", &disk.mount_point().to_string_lossy()),
                Reading::Space { used, total },
            )
        });
        let networks = self.networks.iter().map(|(interface, data)| {
            let (received, sent) = (rate(data.received()), rate(data.transmitted()));
            (topic("net", interface), Reading::Traffic { received, sent })
        });
        let memory = Reading::Space {
            used: self.system.used_memory(),
            total: self.system.total_memory(),
        };
        [
            ("cpu/total".to_owned(), load(self.system.global_cpu_usage())),
            ("memory".to_owned(), memory),
        ]
        .into_iter()
        .chain(cpus)
        .chain(disks)
        .chain(networks)
        .collect()
    }
}

/// The topic of something that has a name of its own: the name becomes one level, because a mount
/// point has slashes and `/` itself would be an empty level.
fn topic(kind: &str, name: &str) -> String {
    let level: String = name
        .trim_matches('/')
        .chars()
        .map(|c| {
            if c.is_control() || "/\\+#".contains(c) {
                '-'
            } else {
                c
            }
        })
        .collect();
    let level = if level.is_empty() { "root" } else { &level };
    format!("{kind}/{level}")
}

#[cfg(test)]
mod tests {
    use localhub_protocol::Topic;

    use super::*;

    #[test]
    fn every_reading_of_this_machine_has_a_topic() {
        let readings = Machine::new().round();
        assert!(
            readings.len() >= 2,
            "no processor or no memory in {readings:?}"
        );
        for (name, _) in readings {
            assert_eq!(Topic::check(&name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn a_mount_point_becomes_one_level() {
        assert_eq!(topic("disk", "/"), "disk/root");
        assert_eq!(topic("disk", "/srv/media+1"), "disk/srv-media-1");
        assert_eq!(topic("disk", "C:\\"), "disk/C:-");
    }
}
