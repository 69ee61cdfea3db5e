//! Requests by name. A plan's rows nearly always stand in the order of the workload, so the first guess is the row itself
//! and ten million names need no table; only where that fails is one built.

use std::collections::HashMap;

use crate::domain::Requests;

pub struct RequestIndex<'a> {
    requests: &'a Requests,
    by_name: Option<HashMap<String, u32>>,
}

impl<'a> RequestIndex<'a> {
    pub fn new(requests: &'a Requests) -> Self {
        Self { requests, by_name: None }
    }

    /// Index of the request called `name`; `guess` is where it probably stands.
    pub fn find(&mut self, name: &str, guess: usize) -> Option<usize> {
        if guess < self.requests.len() && self.requests.ids.get(guess) == name {
            return Some(guess);
        }
        let requests = self.requests;
        // Requests are indexed with 32 bits everywhere.
        let by_name =
            self.by_name.get_or_insert_with(|| (0..requests.len()).map(|r| (requests.ids.get(r), r as u32)).collect());
        by_name.get(name).map(|&request| request as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RequestIds;

    #[test]
    fn names_are_found_wherever_they_stand() {
        let ids = RequestIds::Rows(vec![("a.csv".into(), 0), ("b.csv".into(), 2)]);
        let requests = Requests { input_tokens: vec![1; 3], output_tokens: vec![1; 3], group: vec![0; 3], ids };
        let mut index = RequestIndex::new(&requests);
        assert_eq!(index.find("a.csv:2", 1), Some(1));
        assert_eq!(index.find("b.csv:1", 0), Some(2));
        assert_eq!(index.find("b.csv:2", 9), None);
    }
}
