//! The order of deletion: dependents go before what they need.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::ledger::{narrow, wide};

/// The artifacts to delete, and where each next level begins. The first level holds those that no deleted artifact
/// needs, and so on down to the bases. Artifacts that need each other in a cycle have no right order and come last.
pub(super) fn deletions(kept: &[bool], needs: &BTreeMap<usize, Vec<usize>>) -> (Vec<u32>, Vec<usize>) {
    let doomed = |i: &usize| !kept[*i];
    let mut above: HashMap<usize, usize> = HashMap::new();
    let doomed_needs = || needs.iter().filter(|(i, _)| doomed(i));
    for &base in doomed_needs().flat_map(|(_, bases)| bases).filter(|base| doomed(base)) {
        *above.entry(base).or_default() += 1;
    }
    let mut order: Vec<u32> = (0..kept.len()).filter(doomed).filter(|i| !above.contains_key(i)).map(narrow).collect();
    let (mut levels, mut begin) = (vec![0], 0);
    while begin < order.len() || !above.is_empty() {
        if begin == order.len() {
            // Everything left is in a cycle or below one.
            let circular = in_circles(needs).into_iter().filter(|i| above.remove(i).is_some());
            order.extend(circular.map(narrow));
            if begin == order.len() {
                break;
            }
        }
        let end = order.len();
        let mut next = BTreeSet::new();
        for &i in &order[begin..end] {
            for base in needs.get(&wide(i)).into_iter().flatten() {
                let Some(count) = above.get_mut(base) else { continue };
                *count -= 1;
                if *count == 0 {
                    above.remove(base);
                    next.insert(narrow(*base));
                }
            }
        }
        order.extend(next);
        begin = end;
        levels.push(begin);
    }
    debug_assert!(above.is_empty());
    (order, levels)
}

/// The artifacts in a cycle: those that need themselves, directly or not.
pub(super) fn in_circles(needs: &BTreeMap<usize, Vec<usize>>) -> Vec<usize> {
    // Repeatedly strip what needs nothing that is left, which is in no cycle; then strip from above in the same way.
    let strip = |edges: &BTreeMap<usize, Vec<usize>>| {
        let mut count: HashMap<usize, usize> = edges.iter().map(|(&i, to)| (i, to.len())).collect();
        let mut back: HashMap<usize, Vec<usize>> = HashMap::new();
        for (&i, to) in edges {
            to.iter().for_each(|&t| back.entry(t).or_default().push(i));
        }
        let mut free: Vec<usize> = back.keys().copied().filter(|t| !count.contains_key(t)).collect();
        while let Some(t) = free.pop() {
            for i in back.get(&t).into_iter().flatten() {
                let left = count.get_mut(i).expect("it has an edge");
                *left -= 1;
                if *left == 0 {
                    count.remove(i);
                    free.push(*i);
                }
            }
        }
        count
    };
    let down = strip(needs);
    let mut up: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (&i, to) in needs.iter().filter(|(i, _)| down.contains_key(*i)) {
        to.iter().filter(|t| down.contains_key(*t)).for_each(|&t| up.entry(t).or_default().push(i));
    }
    let mut circles: Vec<usize> = strip(&up).into_keys().collect();
    circles.sort_unstable();
    circles
}
