//! [`Said`]: what one of a cluster's servers says of who has what, and which of several to believe.

use crate::topology::Topology;

pub(super) struct Said {
    pub(super) topology: Topology,
    /// Whether the cluster is well, by its own word; if it gives none, it is.
    pub(super) is_well: bool,
    /// Rises with each failover, and with each slot that moves.
    pub(super) epoch: u64,
}

impl Said {
    /// Whether it may be of the cluster that was known: some server is in both. One of another cluster may have a server's
    /// old address.
    pub(super) fn is_of(&self, known: &Topology) -> bool {
        known.masters().is_empty() || self.topology.meets(known)
    }
}

/// Who may be of the cluster that was known; and if nothing was, who agrees with the most others about who is in it. Then
/// who isn't cut off from the others, and who knows of the latest change.
pub(super) fn best(mut all: Vec<Said>, known: &Topology) -> Option<Said> {
    let rank = |said: &Said| {
        let others = all.iter().filter(|other| said.topology.meets(&other.topology)).count();
        (said.is_of(known), others, said.is_well, said.epoch)
    };
    let ranks = all.iter().map(rank).enumerate();
    // Of equals the first: it was the quickest.
    let (best, _) = ranks.reduce(|best, next| if best.1 < next.1 { next } else { best })?;
    Some(all.swap_remove(best))
}

#[cfg(test)]
pub(super) mod tests {
    use redis::Value;

    use super::*;

    /// All slots at one server, which has this name, with a replica.
    pub(crate) fn all_at(host: &str, replica: &str) -> Topology {
        let text = |text: &str| Value::BulkString(text.into());
        let server =
            |host: &str| Value::Array(vec![text(host), Value::Int(1), text(&format!("id of {host}"))]);
        let range = vec![Value::Int(0), Value::Int(16_383), server(host), server(replica)];
        Topology::read(&Value::Array(vec![Value::Array(range)]), "").unwrap()
    }

    fn said(host: &str, replica: &str, is_well: bool, epoch: u64) -> Said {
        Said { topology: all_at(host, replica), is_well, epoch }
    }

    /// Whom of these, by its host.
    fn chosen(all: Vec<Said>, known: &Topology) -> String {
        best(all, known).unwrap().topology.masters()[0].0.clone()
    }

    #[test]
    fn who_is_cut_off_counts_less_and_so_does_who_missed_the_last_change() {
        let known = all_at("old", "new");
        for known in [&known, &Topology::unknown()] {
            let cut_off = || said("old", "new", false, 9);
            let late = || said("old", "new", true, 7);
            let newest = || said("new", "old", true, 8);
            assert_eq!(chosen(vec![cut_off(), newest(), late()], known), "new");
            assert_eq!(chosen(vec![newest(), late(), cut_off()], known), "new");
            assert_eq!(chosen(vec![cut_off(), late()], known), "old");
        }
        assert_eq!(
            chosen(vec![said("a", "b", true, 1), said("b", "a", true, 1)], &known),
            "a",
            "the quickest"
        );
        assert!(best(Vec::new(), &known).is_none());
    }

    #[test]
    fn who_is_of_another_cluster_is_not_believed_whatever_it_says() {
        let stranger = || said("x", "y", true, 100);
        let own = || said("a", "b", false, 1);
        assert_eq!(chosen(vec![stranger(), own()], &all_at("b", "c")), "a");
        // Of an unknown cluster most have to be of it.
        assert_eq!(chosen(vec![stranger(), own(), said("b", "a", false, 2)], &Topology::unknown()), "b");
        // It may have been made anew.
        assert_eq!(chosen(vec![stranger()], &all_at("a", "b")), "x");
        assert!(!stranger().is_of(&all_at("a", "b")) && stranger().is_of(&Topology::unknown()));
    }
}
