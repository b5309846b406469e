using KernelScope.Attribution;
using KernelScope.Evaluation;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>What rounded weights do to a model's predictions on a text, against the weights as they are.</summary>
/// <remarks>Every position but a sequence's last counts: it predicts the token that follows. The logits are the cpu's in float32; sums over the vocabulary run in double.</remarks>
internal sealed class RoundingEffect
{
    private const int Rows = 16;
    private const int SequenceLength = 128;
    private readonly double[] _divergence = new double[Rows], _exactLoss = new double[Rows], _roundedLoss = new double[Rows];
    private readonly bool[] _agrees = new bool[Rows];
    private readonly float[] _exact, _rounded;
    private readonly double[] _weights;
    private readonly int _vocabulary;

    private RoundingEffect(int vocabulary)
    {
        _vocabulary = vocabulary;
        _exact = new float[Rows * vocabulary];
        _rounded = new float[Rows * vocabulary];
        _weights = new double[Rows * vocabulary];
    }

    /// <summary>Cuts a text into sequences.</summary>
    /// <param name="textFile">The file; null: the text that the program carries.</param>
    /// <param name="model">The model.</param>
    /// <exception cref="InvalidDataException">It cannot be read, or is empty.</exception>
    public static int[][] Sequences(string? textFile, ModelFiles model)
    {
        int length = Math.Min(SequenceLength, model.Config.ContextLength);
        byte[] text = textFile is null ? Demo.Corpus.ToArray() : InputFile.ReadAll(textFile);
        int[][] all = TokenFiles.ReadText(text, NameOf(textFile), model.RequiredTokenizer, length, model.Config);
        return [.. all.Where(s => s.Length > 1)];
    }

    /// <summary>How messages call the text.</summary>
    public static string NameOf(string? textFile) => textFile is null ? "the bundled example text" : InputFile.NameOf(textFile);

    /// <summary>Runs both models over a text.</summary>
    /// <param name="text">What messages call it.</param>
    /// <param name="sequences">The text.</param>
    /// <param name="exact">The model with the weights as they are.</param>
    /// <param name="rounded">The model with rounded ones.</param>
    /// <param name="streams">For progress.</param>
    /// <param name="cancellation">Stops it.</param>
    /// <exception cref="WorkException">A model computes something that is not a number.</exception>
    public static EffectResult Measure(
        string text, int[][] sequences, Gemma2Model exact, Gemma2Model rounded, Streams streams, CancellationToken cancellation)
    {
        var effect = new RoundingEffect(exact.Config.VocabSize);
        double divergence = 0, exactLoss = 0, roundedLoss = 0;
        long count = 0, agrees = 0;
        using var progress = new Progress(streams, "Measuring what rounding does");
        for (int s = 0; s < sequences.Length; s++)
        {
            progress.Report(s / (double)sequences.Length);
            int[] tokens = sequences[s];
            using Session a = exact.NewSession(tokens.Length, Rows), b = rounded.NewSession(tokens.Length, Rows);
            for (int first = 0; first < tokens.Length - 1; first += Rows)
            {
                int rows = Math.Min(Rows, tokens.Length - 1 - first);
                Span<int> chunk = tokens.AsSpan(first, rows);
                int size = rows * effect._vocabulary;
                exact.Device.Read(exact.Forward(chunk, a, LogitRows.All, cancellation), effect._exact.AsSpan(0, size));
                rounded.Device.Read(rounded.Forward(chunk, b, LogitRows.All, cancellation), effect._rounded.AsSpan(0, size));
                exact.Device.ForEach(rows, r => effect.Compare(r, tokens[first + r + 1]));
                for (int r = 0; r < rows; r++)
                {
                    divergence += effect._divergence[r];
                    exactLoss += effect._exactLoss[r];
                    roundedLoss += effect._roundedLoss[r];
                    agrees += effect._agrees[r] ? 1 : 0;
                }

                count += rows;
            }
        }

        if (count == 0)
            throw new WorkException($"{text}: a text of at least one token is needed to measure on.");
        if (!double.IsFinite(divergence + exactLoss + roundedLoss))
            throw new WorkException($"{text}: the model's predictions are not finite there, so what rounding does cannot be said.");
        double loss = exactLoss / count, roundedMean = roundedLoss / count;
        return new EffectResult(
            text, sequences.Length, count, divergence / count, loss, roundedMean, roundedMean - loss, agrees / (double)count);
    }

    private void Compare(int r, int next)
    {
        ReadOnlySpan<float> p = _exact.AsSpan(r * _vocabulary, _vocabulary), q = _rounded.AsSpan(r * _vocabulary, _vocabulary);
        Span<double> weights = _weights.AsSpan(r * _vocabulary, _vocabulary);
        double sumP = LogitRow.Weigh(p, weights, out double scale);
        double sumQ = LogitRow.LogSumExp(q, p, weights, out double cross, out _);
        // KL(p ‖ q) = Σ p (ln p − ln q).
        _divergence[r] = (cross * scale) + sumQ - sumP;
        _exactLoss[r] = sumP - p[next];
        _roundedLoss[r] = sumQ - q[next];
        _agrees[r] = ArgMax(p) == ArgMax(q);
    }

    // The lowest of equal ones, as greedy decoding takes it.
    private static int ArgMax(ReadOnlySpan<float> logits)
    {
        int best = 0;
        for (int v = 1; v < logits.Length; v++)
        {
            if (logits[v] > logits[best])
                best = v;
        }

        return best;
    }
}
