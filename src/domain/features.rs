//! The length features that energy and busy time are linear in.
//!
//! `Feature` is a term of a family's regression, written in input tokens i, output tokens o and batch b. At a fixed
//! batch every plannable feature is a polynomial in (i, o) of degree (2, 2) without mixed squares, so a deployment
//! needs only six coefficients on `features(i, o) = (1, i, o, i*o, i^2, o^2)`; that is what plan, check and bound use.

/// Coefficients or values on (1, i, o, i*o, i^2, o^2).
pub type Features = [f64; 6];

/// The six length features of a request of `input` and `output` tokens.
pub fn features(input: f64, output: f64) -> Features {
    [1.0, input, output, input * output, input * input, output * output]
}

/// Inner product of coefficients and features.
pub fn dot(coefficients: &Features, features: &Features) -> f64 {
    coefficients.iter().zip(features).map(|(a, b)| a * b).sum()
}

/// First and second moments of the token counts that a sample averages over. A sample of constant lengths has
/// `input_sq = input * input` and so on; an unknown moment is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    pub input: Option<f64>,
    pub output: f64,
    pub input_sq: Option<f64>,
    pub output_sq: Option<f64>,
    pub input_output: Option<f64>,
}

impl Moments {
    /// Every request has exactly these lengths.
    pub fn constant(input: f64, output: f64) -> Self {
        Self {
            input: Some(input),
            output,
            input_sq: Some(input * input),
            output_sq: Some(output * output),
            input_output: Some(input * output),
        }
    }
}

/// Energy or seconds per output token at measured batches, interpolated in the logarithms of both.
///
/// Below the first measured batch a step is taken to cost what it costs there (per token: inversely to the batch);
/// above the last one nothing is gained.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchCurve {
    /// (mean running batch, value per output token), batches ascending, values positive.
    pub points: Vec<(f64, f64)>,
}

impl BatchCurve {
    pub fn at(&self, batch: f64) -> f64 {
        let (first, last) = match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => (*first, *last),
            _ => return 0.0,
        };
        if batch <= first.0 {
            return first.1 * first.0 / batch;
        }
        if batch >= last.0 {
            return last.1;
        }
        let upper = self.points.partition_point(|point| point.0 < batch);
        let (low, high) = (self.points[upper - 1], self.points[upper]);
        if low.1 <= 0.0 || high.1 <= 0.0 {
            let share = (batch - low.0) / (high.0 - low.0);
            return low.1 + share * (high.1 - low.1);
        }
        let share = (batch.ln() - low.0.ln()) / (high.0.ln() - low.0.ln());
        (low.1.ln() + share * (high.1.ln() - low.1.ln())).exp()
    }
}

/// A term of a family's energy or runtime regression.
#[derive(Clone, Debug, PartialEq)]
pub enum Feature {
    /// 1: what a request costs whatever its length.
    Constant,
    /// o / b: what a step costs whatever the batch (weights read, static power).
    OutputPerBatch,
    /// o / sqrt(b): the third batch term.
    OutputPerSqrtBatch,
    /// o: what each output token adds.
    Output,
    /// o times a value tabulated over the batch; stands in place of the three above.
    OutputAtBatch(BatchCurve),
    /// S1 = sum over k < o of (i + k) = o*i + o*(o-1)/2: reading the KV cache.
    ContextRead,
    /// Sum over k < o of max(0, i + k - n): recomputing the context beyond n tokens, KV cache off. Below n a step takes
    /// what reading the weights and launching kernels take, whatever it computes.
    ContextAbove(f64),
    /// i: prefill, linear part.
    Input,
    /// i^2: prefill, attention.
    InputSquared,
    /// i*o, of the published bilinear form.
    InputOutput,
}

impl Feature {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Constant => "1",
            Self::OutputPerBatch => "o/b",
            Self::OutputPerSqrtBatch => "o/sqrt(b)",
            Self::Output => "o",
            Self::OutputAtBatch(_) => "o(b)",
            Self::ContextRead => "S1",
            Self::ContextAbove(_) => "S1>n",
            Self::Input => "i",
            Self::InputSquared => "i^2",
            Self::InputOutput => "i*o",
        }
    }

    /// The value for one request of `input` and `output` tokens at mean running batch `batch`.
    pub fn value(&self, input: f64, output: f64, batch: f64) -> f64 {
        match self {
            // The only term that is not in the span of `features`.
            Self::ContextAbove(least) => {
                // The first step whose context reaches `least`, and how many there are from there on.
                let first = (least - input).max(0.0).ceil();
                let steps = (output - first).max(0.0);
                steps * (input + first - least) + steps * (steps - 1.0).max(0.0) / 2.0
            }
            _ => self.polynomial(batch).map_or(0.0, |p| dot(&p, &features(input, output))),
        }
    }

    /// The mean over requests with these moments; `None` where a moment it needs is unknown.
    pub fn expected(&self, moments: &Moments, batch: f64) -> Option<f64> {
        if let Self::ContextAbove(_) = self {
            // No moment tells how many requests reach that far: for constant lengths only.
            let input = moments.input?;
            let constant = |square: f64, mean: f64| square <= mean * mean * (1.0 + 1e-9);
            let known = constant(moments.output_sq?, moments.output) && constant(moments.input_sq?, input);
            return known.then(|| self.value(input, moments.output, batch));
        }
        let means =
            [Some(1.0), moments.input, Some(moments.output), moments.input_output, moments.input_sq, moments.output_sq];
        self.polynomial(batch)?
            .iter()
            .zip(means)
            .filter(|(coefficient, _)| **coefficient != 0.0)
            .map(|(coefficient, mean)| mean.map(|mean| coefficient * mean))
            .sum()
    }

    /// Coefficients on (1, i, o, i*o, i^2, o^2) at a fixed batch; `None` for the bent term of KV cache off.
    pub fn polynomial(&self, batch: f64) -> Option<Features> {
        Some(match self {
            Self::Constant => [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            Self::OutputPerBatch => [0.0, 0.0, 1.0 / batch, 0.0, 0.0, 0.0],
            Self::OutputPerSqrtBatch => [0.0, 0.0, 1.0 / batch.sqrt(), 0.0, 0.0, 0.0],
            Self::Output => [0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
            Self::OutputAtBatch(curve) => [0.0, 0.0, curve.at(batch), 0.0, 0.0, 0.0],
            Self::ContextRead => [0.0, 0.0, -0.5, 1.0, 0.0, 0.5],
            Self::Input => [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
            Self::InputSquared => [0.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            Self::InputOutput => [0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
            Self::ContextAbove(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_sums_equal_their_definitions() {
        for (input, output) in [(0u32, 1u32), (7, 1), (8, 13), (100, 64)] {
            let (i, o) = (f64::from(input), f64::from(output));
            let s1: f64 = (0..output).map(|k| i + f64::from(k)).sum();
            assert!((Feature::ContextRead.value(i, o, 1.0) - s1).abs() < 1e-6);
            for least in [1.0, 10.5, 20.0, 128.0, 1e4] {
                let above: f64 = (0..output).map(|k| (i + f64::from(k) - least).max(0.0)).sum();
                assert!((Feature::ContextAbove(least).value(i, o, 1.0) - above).abs() < 1e-6, "{i} {o} {least}");
            }
        }
    }

    #[test]
    fn a_batch_curve_meets_its_points_and_stays_between_them() {
        let curve = BatchCurve { points: vec![(8.0, 0.7), (32.0, 0.24), (128.0, 0.12)] };
        assert!((curve.at(32.0) - 0.24).abs() < 1e-12);
        assert!((curve.at(4.0) - 1.4).abs() < 1e-12);
        assert!((curve.at(512.0) - 0.12).abs() < 1e-12);
        let between = curve.at(64.0);
        assert!(between < 0.24 && between > 0.12);
    }

    #[test]
    fn unknown_moments_make_a_feature_unknown_only_where_it_needs_them() {
        let moments = Moments { input: None, output: 600.0, input_sq: None, output_sq: Some(4e5), input_output: None };
        assert_eq!(Feature::Output.expected(&moments, 8.0), Some(600.0));
        assert_eq!(Feature::OutputPerBatch.expected(&moments, 8.0), Some(75.0));
        assert_eq!(Feature::Input.expected(&moments, 8.0), None);
        assert_eq!(Feature::ContextRead.expected(&moments, 8.0), None);
    }
}
