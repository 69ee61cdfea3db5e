//! Requests by name. A plan's rows nearly always stand in the order of the workload, so the first guess is the row itself
//! and ten million names need no table: a few thousand are looked at together. Only where that fails is a table built.

use std::collections::HashMap;

use crate::domain::{Names, Requests};

/// Names looked at together.
const BLOCK: usize = 1 << 14;

pub struct RequestIndex<'a> {
    requests: &'a Requests,
    /// Index of the first of some names, and they.
    near: (usize, Names),
    by_name: Option<HashMap<String, u32>>,
}

impl<'a> RequestIndex<'a> {
    pub fn new(requests: &'a Requests) -> Self {
        Self { requests, near: (0, Names::default()), by_name: None }
    }

    /// Index of the request called `name`; `guess` is where it probably stands. Names that cannot be read find nothing.
    pub fn find(&mut self, name: &str, guess: usize) -> Option<usize> {
        if guess < self.requests.len() && self.name(guess) == Some(name) {
            return Some(guess);
        }
        let requests = self.requests;
        let by_name = self.by_name.get_or_insert_with(|| {
            let mut by_name = HashMap::with_capacity(requests.len());
            // Requests are indexed with 32 bits everywhere. What could not be read is not there.
            let _ = requests.ids.visit(0..requests.len(), &mut |request, name| {
                by_name.insert(name.to_owned(), request as u32);
            });
            by_name
        });
        by_name.get(name).map(|&request| request as usize)
    }

    fn name(&mut self, request: usize) -> Option<&str> {
        let (first, names) = &self.near;
        if request < *first || request >= first + names.len() {
            let range = request..(request + BLOCK).min(self.requests.len());
            let mut names = Names::with_capacity(range.len());
            self.requests.ids.visit(range, &mut |_, name| names.push(name)).ok()?;
            self.near = (request, names);
        }
        let (first, names) = &self.near;
        (request - first < names.len()).then(|| names.get(request - first))
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
