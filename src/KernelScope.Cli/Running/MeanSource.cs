using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Model;

namespace KernelScope.Cli;

/// <summary>Where the mean activation of <c>--splice mean</c> comes from: stored activations, or a text over which the model then runs.</summary>
internal sealed class MeanSource
{
    /// <summary>What <c>eval --out</c> calls it.</summary>
    private const string EvaluationMean = "xbar";

    private static readonly string[] ArrayExtensions = [".npz", ".npy", ".safetensors"];
    private readonly HookPoint _point;
    private float[]? _mean;
    private readonly TokenSet? _tokens;
    private readonly string? _doubt;

    private MeanSource(HookPoint point, float[]? mean, TokenSet? tokens, string? doubt = null) =>
        (_point, _mean, _tokens, _doubt) = (point, mean, tokens, doubt);

    /// <summary>Reads the file; the model does not run yet.</summary>
    /// <exception cref="WorkException">It holds no mean for the point.</exception>
    public static MeanSource Open(string path, HookPoint point, ModelFiles model)
    {
        if (ArrayExtensions.Any(extension => path.EndsWith(extension, StringComparison.OrdinalIgnoreCase)))
            return new MeanSource(point, Stored(path, point, model), null);
        bool ids = path.EndsWith(".json", StringComparison.OrdinalIgnoreCase);
        TokenSet tokens = EvalTokens.Read(ids ? null : path, ids ? path : null, null, null, model, out string? doubt);
        return new MeanSource(point, null, tokens, doubt);
    }

    /// <summary>The mean; the model runs for it once.</summary>
    public float[] Of(Gemma2Model model, Streams streams, CancellationToken cancellation)
    {
        if (_mean is not null)
            return _mean;
        if (_doubt is not null)
            streams.Warn(_doubt);
        using var progress = new Progress(streams, $"Mean at {_point}");
        return _mean = MeanActivation.Of(model, _point, _tokens!, progress, cancellation);
    }

    private static float[] Stored(string path, HookPoint point, ModelFiles model)
    {
        int width = Sites.WidthOf(model.Config, point);
        using TensorFile file = ArrayFile.Open(path);
        Dictionary<string, TensorInfo> arrays = CapturedArrays.Read(file);
        string? name = (arrays.GetValueOrDefault(point.ToString()) ?? arrays.GetValueOrDefault(EvaluationMean))?.Name;
        if (CapturedArrays.IsUnnamed(file))
            name = file.Contents[0].Name;
        if (name is null)
            throw new WorkException($"{path}: there is no array '{point}' (nor '{EvaluationMean}') in it to take a mean from; it " +
                $"has {string.Join(", ", file.Contents.Take(12).Select(c => c.Name))}.");
        TensorView values = file[name];
        bool flat = values.Shape.Length >= 1 && values.Shape[^1] == width, heads = values.Shape.Length >= 2
            && values.Shape[^2] * values.Shape[^1] == width;
        if (!values.DType.IsFloat() || (!flat && !heads))
            throw new WorkException($"{values.Describe()} is not a mean of {point}, which has {width} values.");
        long rows = values.ElementCount / width;
        float[] mean = Mean(values, rows, width, Counted(file, rows, model));
        return Array.TrueForAll(mean, float.IsFinite) ? mean : throw new WorkException($"{values.Describe()} holds something that is " +
            "not a finite number, or no row that counts.");
    }

    /// <summary>Which rows count: those whose token is not special, where the file has the tokens.</summary>
    private static Func<long, bool> Counted(TensorFile file, long rows, ModelFiles model)
    {
        if (rows < 2 || !file.Contents.Any(c => c.Name == CapturedArrays.Tokens && c.DType.IsInteger() && c.ElementCount == rows))
            return _ => true;
        long[] tokens = file[CapturedArrays.Tokens].ToInt64s();
        HashSet<long> special = [model.BosId, model.Config.PadId, .. model.Config.TextEndIds];
        return r => !special.Contains(tokens[r]);
    }

    private static float[] Mean(in TensorView values, long rows, int width, Func<long, bool> counts)
    {
        double[] sums = new double[width];
        float[] row = new float[width];
        long counted = 0;
        for (long r = 0; r < rows; r++)
        {
            if (!counts(r))
                continue;
            counted++;
            values.CopyTo(r * width, row);
            for (int j = 0; j < width; j++)
                sums[j] += row[j];
        }

        return Array.ConvertAll(sums, s => (float)(s / counted));
    }
}
