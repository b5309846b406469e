using KernelScope.Bench.Models;
using KernelScope.Devices;
using KernelScope.Files;
using KernelScope.Hooks;
using KernelScope.Measuring;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Bench;

/// <summary>A model and an SAE of random values in a temporary folder, of a size at which an evaluation costs what it costs on a real one: four layers of width 1152, 32,768 tokens, 16,384 features.</summary>
internal sealed class EvaluationModel : IDisposable
{
    private const int Dim = 1152;
    private const int Mlp = 6912;
    private const int Heads = 4;
    private const int KvHeads = 2;
    private const int HeadDim = 256;
    private const int Vocabulary = 32_768;
    private const int Layers = 4;
    private const int Features = 16_384;

    // A pre-activation is a sum of d products of values of the stream and uniform weights in ±RandomValues.Largest, whose deviation is RandomValues.Largest/√3; of 16,384 normal values 76 lie above 2.6 deviations.
    private const double ActiveDeviations = 2.6;
    private readonly string _folder = Directory.CreateTempSubdirectory("kernelscope-bench-").FullName;

    /// <summary>Writes and opens both.</summary>
    public EvaluationModel(Device device, int length)
    {
        RandomModel.Write(_folder, ModelSizes.Create(Dim, Mlp, Layers, Heads, KvHeads, HeadDim, HeadDim) with { VocabSize = Vocabulary });
        Model = Gemma2Model.Open(device, _folder);
        Site = new HookPoint(KernelScope.Hooks.Site.ResidPost, (Layers / 2) - 1);
        string path = Path.Combine(_folder, SaeCheckpoint.ParamsName);
        WriteSae(path, SizeAtSite(length));
        Sae = JumpReluSae.Open(device, path);
    }

    public Gemma2Model Model { get; }

    public JumpReluSae Sae { get; }

    /// <summary>The stream in the middle of the model.</summary>
    public HookPoint Site { get; }

    public void Dispose()
    {
        Sae.Dispose();
        Model.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static void WriteSae(string path, double size)
    {
        float[] thresholds = new float[Features];
        Array.Fill(thresholds, (float)(ActiveDeviations * size * Math.Sqrt(Dim / 3.0) * RandomValues.Largest));
        using var writer = new NpzWriter(path);
        writer.Add<float>("W_enc", RandomValues.Create(Dim * Features, RandomValues.Largest), Dim, Features);
        writer.Add<float>("W_dec", RandomValues.Create((Dim * Features) + 1, RandomValues.Largest).AsSpan(1), Features, Dim);
        writer.Add<float>("b_enc", new float[Features], Features);
        writer.Add<float>("b_dec", new float[Dim], Dim);
        writer.Add<float>("threshold", thresholds, Features);
        writer.Commit();
    }

    /// <summary>Root mean square of the values at the site.</summary>
    private double SizeAtSite(int length)
    {
        using Session session = Model.NewSession(length, length);
        using var cache = new ActivationCache(session.Hooks, [Site], length);
        Model.Forward([.. Enumerable.Range(0, length).Select(t => 2 + (t * 31))], session, LogitRows.None);
        double squares = 0;
        foreach (float value in cache.Values(Site))
            squares += value * value;
        return Math.Sqrt(squares / cache.Values(Site).Length);
    }
}
