//! Artifacts that are empty or much smaller than their predecessors, and the fuller ones they must not displace.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{Ledger, Subject, Ties};
use crate::retention::plan::Warning;
use crate::retention::policy::Policy;

impl<S: Subject> Ledger<'_, S> {
    /// Marks everything based on a lesser artifact as lesser too: changes are of little use without what they changed.
    pub(super) fn spread_less(&mut self, needed_by: &HashMap<usize, Vec<usize>>) {
        let mut less: Vec<usize> = (0..self.artifacts.len()).filter(|&i| self.less[i]).collect();
        while let Some(i) = less.pop() {
            for &above in needed_by.get(&i).into_iter().flatten() {
                if !std::mem::replace(&mut self.less[above], true) {
                    less.push(above);
                }
            }
        }
    }

    /// The good artifacts that the rules would keep if there were no lesser ones: lesser artifacts displace nothing.
    pub(super) fn fuller_ones(&self, policy: &Policy, now: Timestamp) -> Vec<usize> {
        let whole = |i: usize| self.good[i] && !self.less[i];
        if !self.less.contains(&true) || !self.past().any(whole) {
            return Vec::new();
        }
        let mut fuller = Self {
            artifacts: self.artifacts,
            ties: Ties { needs: self.ties.needs.clone(), ..Ties::default() },
            good: (0..self.artifacts.len()).map(whole).collect(),
            less: Vec::new(),
            causes: Vec::new(),
            kept: vec![false; self.artifacts.len()],
            past: self.past,
            warnings: Vec::new(),
        };
        fuller.apply_rules(policy, now);
        self.past().filter(|&i| fuller.kept[i] && whole(i)).collect()
    }

    /// Warns when the newest good artifact holds less than an earlier one.
    pub(super) fn warn_of_less(&mut self, key_of: &impl Fn(usize) -> String) {
        let Some(newest) = self.past_good().next().filter(|&i| self.less[i]) else { return };
        let fuller = self.past_good().find(|&i| !self.less[i]);
        let count = self.past_good().take_while(|&i| self.less[i]).count();
        if let Some(fuller) = fuller {
            self.warnings.push(Warning::Less { key: key_of(newest), count, fuller: key_of(fuller) });
        }
    }
}
