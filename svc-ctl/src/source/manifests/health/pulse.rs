//! Decides from answered and missed heartbeats whether another node is up or down. Pure. Beats are its clock, so a
//! daemon that was itself held up counts no other node as down.

/// Beats without an answer after which a node is down: with four a second, two seconds. If a node's daemon does not
/// run, the node's kernel answers once a second.
pub const MISSES: u32 = 8;
/// Answers in a row after which it is up again.
const RETURNS: u32 = 4;

/// The state of another node.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pulse {
    state: State,
    missed: u32,
    answered: u32,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It has never answered, perhaps because it cannot. Its Pods stay.
    #[default]
    Unheard,
    /// Like `Unheard`, after enough requests to count as silent.
    Silent,
    Up,
    Down,
}

impl Pulse {
    pub const fn state(self) -> State {
        self.state
    }

    /// Another heartbeat goes out.
    pub fn beat(&mut self) {
        self.missed = self.missed.saturating_add(1);
        if self.missed > MISSES {
            self.answered = 0;
            self.state = match self.state {
                State::Unheard | State::Silent => State::Silent,
                State::Up | State::Down => State::Down,
            };
        }
    }

    pub fn answer(&mut self) {
        self.missed = 0;
        self.answered = self.answered.saturating_add(1);
        if self.state != State::Down || self.answered >= RETURNS {
            self.state = State::Up;
        }
    }
}

/// The health of another node: its Pods are served as long as its kernel answers, and load-balancer addresses as long as its
/// daemon does.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeerHealth {
    node: Pulse,
    daemon: Pulse,
}

impl PeerHealth {
    pub const fn node(self) -> State {
        self.node.state()
    }

    pub const fn daemon(self) -> State {
        self.daemon.state()
    }

    /// Another heartbeat goes out.
    pub fn beat(&mut self) {
        self.node.beat();
        self.daemon.beat();
    }

    pub fn answer(&mut self) {
        self.node.answer();
        self.daemon.answer();
    }

    /// The kernel of the node reports that no daemon listens.
    pub fn refuse(&mut self) {
        self.node.answer();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays beats `.` and answers `!`, each with a number, and returns the state at the end.
    fn state(steps: &[(char, u32)]) -> State {
        let mut pulse = Pulse::default();
        for (step, count) in steps {
            for _ in 0..*count {
                if *step == '.' { pulse.beat() } else { pulse.answer() }
            }
        }
        pulse.state()
    }

    #[test]
    fn a_node_is_down_after_silence_and_up_after_answers_in_a_row() {
        for (steps, expected) in [
            (&[][..], State::Unheard),
            (&[('.', 8)], State::Unheard),
            (&[('.', 9)], State::Silent),
            (&[('.', 100), ('!', 1)], State::Up),
            (&[('!', 1), ('.', 8)], State::Up),
            (&[('!', 1), ('.', 9)], State::Down),
            (&[('!', 1), ('.', 4), ('!', 1), ('.', 8)], State::Up),
            (&[('!', 1), ('.', 9), ('!', 3)], State::Down),
            (&[('!', 1), ('.', 9), ('!', 3), ('.', 9), ('!', 1)], State::Down),
            (&[('!', 1), ('.', 9), ('!', 2), ('.', 4), ('!', 2)], State::Up),
        ] {
            assert_eq!(state(steps), expected, "{steps:?}");
        }
    }

    #[test]
    fn a_node_that_answers_by_its_kernel_alone_is_up_without_its_daemon() {
        let mut peer = PeerHealth::default();
        peer.answer();
        assert_eq!((peer.node(), peer.daemon()), (State::Up, State::Up));
        // The kernel reports it once in four beats.
        for _ in 0..3 {
            (0..4).for_each(|_| peer.beat());
            peer.refuse();
        }
        assert_eq!((peer.node(), peer.daemon()), (State::Up, State::Down));
        (0..RETURNS).for_each(|_| peer.answer());
        assert_eq!((peer.node(), peer.daemon()), (State::Up, State::Up));
    }
}
