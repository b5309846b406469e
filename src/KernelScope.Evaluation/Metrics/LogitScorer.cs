using KernelScope.Attribution;
using KernelScope.Devices;
using KernelScope.Model;

namespace KernelScope.Evaluation;

/// <summary>What a spliced pass does to the predictions, by position.</summary>
/// <param name="Losses">Cross-entropy of the next token in nats, one for each position but the last.</param>
/// <param name="Divergences">KL(clean ‖ spliced) = Σ_v p_v (ln p_v − ln q_v), one for each position; empty for the clean pass.</param>
internal readonly record struct RunScores(Memory<double> Losses, Memory<double> Divergences);

/// <summary>
/// Compares the predictions of several forward passes over one sequence, from their final norms: a block of rows at a time, so that [positions × vocabulary] logits are never stored.
/// The logits are those of the device in float32; sums over the vocabulary run on the host in double.
/// </summary>
internal sealed class LogitScorer : IDisposable
{
    /// <summary>Bytes of a block of rows unless asked otherwise.</summary>
    public const long BlockBytes = 256L << 20;

    private readonly Gemma2Model _model;
    private readonly Logits _clean;
    private readonly Logits _run;
    private readonly double[] _weights;
    private readonly double[] _scales;
    private readonly double[] _cleanSums;
    private readonly int _rows;
    private readonly int _vocabulary;

    public LogitScorer(Gemma2Model model, int length, long blockBytes)
    {
        _model = model;
        _vocabulary = model.Config.VocabSize;
        _rows = (int)Math.Clamp(blockBytes / (16L * _vocabulary), 1, length);
        _clean = new Logits(model, _rows);
        _run = new Logits(model, _rows);
        _weights = new double[_rows * _vocabulary];
        _scales = new double[_rows];
        _cleanSums = new double[_rows];
    }

    /// <summary>Where the logits of a run (−1: the clean pass) are kept, [positions, vocabulary]; empty if they are not.</summary>
    public Func<int, Span<float>> Kept { get; set; } = _ => [];

    /// <summary>Scores one sequence.</summary>
    /// <param name="tokens">Its tokens.</param>
    /// <param name="clean">The clean pass's final norm, [positions, d_model].</param>
    /// <param name="cleanScores">Receives its losses.</param>
    /// <param name="runs">The spliced passes' final norms.</param>
    /// <param name="scores">Receive theirs.</param>
    /// <param name="largest">Receives the largest difference of a logit from the clean one, by pass.</param>
    public void Score(int[] tokens, Mat clean, RunScores cleanScores, IReadOnlyList<Mat> runs, IReadOnlyList<RunScores> scores,
        Span<double> largest)
    {
        largest.Clear();
        for (int start = 0; start < tokens.Length; start += _rows)
        {
            int count = Math.Min(_rows, tokens.Length - start);
            _clean.Compute(clean.RowRange(start, count));
            _clean.Keep(Kept(-1), start, count);
            _model.Device.ForEach(count, r => ScoreClean(tokens, start, r, cleanScores));
            for (int i = 0; i < runs.Count; i++)
            {
                RunScores run = scores[i];
                double[] differences = new double[count];
                _run.Compute(runs[i].RowRange(start, count));
                _run.Keep(Kept(i), start, count);
                _model.Device.ForEach(count, r => differences[r] = ScoreRun(tokens, start, r, run));
                largest[i] = Math.Max(largest[i], differences.Max());
            }
        }
    }

    public void Dispose()
    {
        _clean.Dispose();
        _run.Dispose();
    }

    private void ScoreClean(int[] tokens, int start, int r, RunScores scores)
    {
        ReadOnlySpan<float> row = _clean.Row(r);
        double sum = LogitRow.Weigh(row, _weights.AsSpan(r * _vocabulary, _vocabulary), out _scales[r]);
        _cleanSums[r] = sum;
        int t = start + r;
        if (t + 1 < tokens.Length)
            scores.Losses.Span[t] = sum - row[tokens[t + 1]];
    }

    private double ScoreRun(int[] tokens, int start, int r, RunScores scores)
    {
        ReadOnlySpan<float> row = _run.Row(r);
        double sum =
            LogitRow.LogSumExp(row, _clean.Row(r), _weights.AsSpan(r * _vocabulary, _vocabulary), out double cross, out double largest);
        int t = start + r;
        if (t + 1 < tokens.Length)
            scores.Losses.Span[t] = sum - row[tokens[t + 1]];
        scores.Divergences.Span[t] = (cross * _scales[r]) + sum - _cleanSums[r];
        return largest;
    }

    /// <summary>A block of logits: looked at where it lies if that is the host's memory, else in a copy.</summary>
    private sealed class Logits : IDisposable
    {
        private readonly Gemma2Model _model;
        private readonly Mat _values;
        private readonly float[] _copy;

        public Logits(Gemma2Model model, int rows)
        {
            _model = model;
            _values = model.Device.CreateMat(rows, model.Config.VocabSize, "evaluation logits");
            _copy = _values.Buffer is HostBuffer ? [] : new float[rows * model.Config.VocabSize];
        }

        public void Compute(Mat normed)
        {
            Mat logits = _values.RowRange(0, normed.Rows);
            _model.Device.Linear(normed, _model.Unembedding, logits);
            if (_model.Config.FinalSoftcap > 0)
                _model.Device.Softcap(logits, _model.Config.FinalSoftcap);
            if (_copy.Length > 0)
                _model.Device.Read(logits, _copy.AsSpan(0, normed.Rows * _values.Columns));
        }

        public ReadOnlySpan<float> Row(int r) =>
            _copy.Length > 0 ? _copy.AsSpan(r * _values.Columns, _values.Columns) : HostBuffer.Row(_values, r);

        public void Keep(Span<float> destination, int firstRow, int count)
        {
            if (!destination.IsEmpty)
                _model.Device.Read(_values.RowRange(0, count), destination.Slice(firstRow * _values.Columns, count * _values.Columns));
        }

        public void Dispose() => _values.Buffer.Dispose();
    }
}
