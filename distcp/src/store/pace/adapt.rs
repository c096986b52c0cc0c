//! How many requests a second a store stands: unlimited until it says "slow down", then down fast and up slowly.
//!
//! Pure: the caller brings the time. Halving at most once a second keeps one burst of refusals, all answers to requests
//! that were under way at once, from counting as many; growth by a tenth a second comes back from one request a second to a
//! thousand in under a minute, and stays near what the store stands otherwise. A limit that nothing pushes against any more
//! goes away.

use std::time::Duration;

use tokio::time::Instant;

/// The lowest limit, in requests a second: a store that refuses everything is still asked.
const MIN_RATE: f64 = 1.0;
/// What a refusal leaves of the rate.
const CUT: f64 = 0.5;
/// Growth a second without a refusal: a factor, and a summand so that the lowest rates grow too.
const GROWTH: (f64, f64) = (1.1, 1.0);
/// The time in which rates are counted, one cut counts, and growth happens once.
const STEP: Duration = Duration::from_secs(1);
/// A limit goes away when there was no refusal for so long and no more than half of it was used.
const CALM: Duration = Duration::from_secs(30);

/// The rate of one store.
#[derive(Debug)]
pub(super) struct Rate {
    /// Requests a second; `None`: no limit.
    limit: Option<f64>,
    /// When the current step of counting began, and requests sent in it.
    step: (Instant, u32),
    /// Requests a second in the last whole step.
    sent: f64,
    last_refusal: Option<Instant>,
    last_cut: Option<Instant>,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { limit: None, step: (now, 0), sent: 0.0, last_refusal: None, last_cut: None }
    }

    /// Requests a second that may be sent now; `None` is no limit.
    pub(super) fn limit(&mut self, now: Instant) -> Option<f64> {
        self.advance(now);
        self.limit
    }

    /// A request goes out.
    pub(super) fn sending(&mut self, now: Instant) {
        self.advance(now);
        self.step.1 = self.step.1.saturating_add(1);
    }

    /// The store said "slow down".
    pub(super) fn refused(&mut self, now: Instant) {
        self.advance(now);
        self.last_refusal = Some(now);
        if self.last_cut.is_some_and(|cut| now - cut < STEP) {
            return;
        }
        self.last_cut = Some(now);
        // In the first step there is no whole one to go by.
        let sent = self.sent.max(f64::from(self.step.1));
        let rate = self.limit.map_or(sent, |limit| limit.min(sent));
        self.limit = Some((rate * CUT).max(MIN_RATE));
    }

    fn advance(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.step.0);
        if passed < STEP {
            return;
        }
        self.sent = f64::from(self.step.1) / passed.as_secs_f64();
        self.step = (now, 0);
        let calm_for = self.last_refusal.map(|refusal| now.saturating_duration_since(refusal));
        if let Some(limit) = self.limit
            && calm_for.is_none_or(|calm| calm >= STEP)
        {
            let idle = self.sent < limit / 2.0 && calm_for.is_none_or(|calm| calm >= CALM);
            self.limit = (!idle).then_some(limit * GROWTH.0 + GROWTH.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client that wants `wanted` requests a second, on a store that takes `capacity(second)` of them in each second.
    /// Returns what was taken and what was refused, by second.
    fn simulate(wanted: f64, seconds: u32, capacity: impl Fn(u32) -> u32) -> Vec<(u32, u32)> {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let mut at = 0.0_f64;
        let mut by_second = vec![(0, 0); seconds as usize];
        loop {
            let now = start + Duration::from_secs_f64(at);
            let Some(second) = by_second.get_mut(at as usize) else { return by_second };
            rate.sending(now);
            if second.0 < capacity(at as u32) {
                second.0 += 1;
            } else {
                second.1 += 1;
                rate.refused(now);
            }
            at += 1.0 / rate.limit(now).map_or(wanted, |limit| limit.min(wanted));
        }
    }

    fn sums(seconds: &[(u32, u32)]) -> (u32, u32) {
        seconds.iter().fold((0, 0), |sum, second| (sum.0 + second.0, sum.1 + second.1))
    }

    #[test]
    fn a_store_that_never_refuses_is_never_limited() {
        let (taken, refused) = sums(&simulate(1000.0, 20, |_| u32::MAX));
        assert_eq!(refused, 0);
        assert!((19_990..=20_010).contains(&taken), "{taken}");
    }

    #[test]
    fn case_50_refused_for_20_s_the_rate_falls_and_recovers() {
        let seconds = simulate(1000.0, 120, |second| if (10..30).contains(&second) { 0 } else { u32::MAX });
        // Down fast: after ten seconds a request a second is left; in all far fewer than 20,000 went out in vain.
        assert!(seconds[20..30].iter().all(|second| second.1 <= 3), "{:?}", &seconds[10..30]);
        assert!(sums(&seconds[10..30]).1 < 4000, "{:?}", sums(&seconds[10..30]));
        // Up slowly, but up: never to the full rate within ten seconds, wholly within sixty.
        assert!(seconds[30..40].iter().all(|second| second.0 < 500), "{:?}", &seconds[30..40]);
        assert!(seconds[90].0 >= 990, "{:?}", seconds[90]);
        assert_eq!(sums(&seconds[31..]).1, 0);
    }

    #[test]
    fn a_limit_that_nothing_pushes_against_goes_away() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.sending(start);
        rate.refused(start);
        assert_eq!(rate.limit(start), Some(MIN_RATE));
        for second in 1..=60 {
            rate.sending(start + Duration::from_secs(second));
        }
        assert_eq!(rate.limit(start + Duration::from_secs(61)), None);
    }

    proptest! {
        /// Whatever a store stands, most of it is used, and few requests are in vain.
        #[test]
        fn most_of_what_a_store_stands_is_used(capacity in 5_u32..2000, excess in 1.5_f64..20.0) {
            let seconds = simulate(f64::from(capacity) * excess, 120, |_| capacity);
            let (taken, refused) = sums(&seconds[30..]);
            let possible = 90 * capacity;
            prop_assert!(f64::from(taken) > 0.6 * f64::from(possible), "{taken} of {possible}");
            prop_assert!(f64::from(refused) < 0.1 * f64::from(taken) + 90.0, "{refused} in vain beside {taken}");
        }
    }
}
