using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Hooks;

namespace KernelScope.Cli;

/// <summary>Stored activations that a run is held against, usually another program's.</summary>
internal sealed class StoredActivations
{
    private const string TokensName = CapturedArrays.Tokens;
    private readonly string _path;
    private readonly string[] _lacking;

    private StoredActivations(string path, HookPoint[] points, string[] lacking, long[]? tokens)
    {
        _path = path;
        Points = points;
        _lacking = lacking;
        Tokens = tokens;
    }

    /// <summary>The hook points that the file has and the model too.</summary>
    public HookPoint[] Points { get; }

    /// <summary>The tokens that it belongs to, if it says so.</summary>
    public long[]? Tokens { get; }

    /// <summary>Looks at what a file holds.</summary>
    /// <exception cref="WorkException">It holds no hook point of the model.</exception>
    public static StoredActivations Open(string path, ModelFiles model)
    {
        using TensorFile file = ArrayFile.Open(ArrayInput.Require(path));
        var named = new List<(string Name, HookPoint Point)>();
        foreach (string name in file.Contents.Select(c => c.Name))
        {
            if (HookPoint.TryParse(name, out HookPoint point))
                named.Add((name, point));
        }

        HookPoint[] points = [.. named.Select(n => n.Point).Where(p => p.Layer < model.Config.LayerCount).Distinct().OrderBy(Sites.Order)];
        if (points.Length == 0)
            throw new WorkException($"{path}: it holds no array that is named by a hook point of {model.Name}, such as resid_post.0; " +
                $"it has {string.Join(", ", file.Contents.Take(12).Select(c => c.Name))}.");
        TensorInfo? tokens = file.Contents.FirstOrDefault(c => c.Name == TokensName && c.DType.IsInteger() && c.ElementCount > 0);
        return new StoredActivations(path, points, [.. named.Where(n => n.Point.Layer >= model.Config.LayerCount).Select(n => n.Name)],
            tokens is null ? null : file[TokensName].ToInt64s());
    }

    /// <summary>Compares what was captured. Arrays of the file that are not hook points are not looked at.</summary>
    public DiffResult Compare(ActivationCache captured, int[] tokens, int headDim, double tolerance, CancellationToken cancellation)
    {
        using var scratch = new ScratchFolder();
        string own = scratch.At("own.npz");
        using (var writer = new NpzWriter(own))
        {
            captured.AddTo(writer, headDim);
            writer.Add<long>(TokensName, Array.ConvertAll(tokens, id => (long)id), tokens.Length);
            writer.Commit();
        }

        var diff = ActivationDiff.Of(_path, own, tolerance, null, cancellation);
        return DiffCommand.Result(_path, "this run", tolerance, diff with { OnlyInA = _lacking, OnlyInB = [] });
    }
}
