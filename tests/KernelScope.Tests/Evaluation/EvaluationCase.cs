using System.Text.Json;
using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Evaluation;

/// <summary>The tiny trained model of fixtures/sae/evaluation with its tokens and SAEs, on a device.</summary>
internal sealed class EvaluationCase : IDisposable
{
    public const string Residual = "sae-resid_post.2";
    public static readonly string[] Names = [Residual, "sae-mlp_out_post.1", "sae-z.1", "sae-mlp_in_unit.1-to-mlp_out_post.1"];

    private readonly List<JumpReluSae> _saes = [];

    public EvaluationCase(string deviceName, params string[] names) : this(TestDevices.Open(deviceName), Folder("model"), names)
    {
    }

    public EvaluationCase(Device device, string modelFolder, params string[] names)
    {
        Device = device;
        Model = Gemma2Model.Open(device, modelFolder);
        Tokens = TokenSet.Create(Sequences(Folder("tokens.json")), Model.Config);
        Targets = [.. names.Select(Open)];
    }

    public Device Device { get; }

    public Gemma2Model Model { get; }

    public TokenSet Tokens { get; }

    public SaeTarget[] Targets { get; }

    public static string Folder(string name) => Fixtures.Path("sae", "evaluation", name);

    public static int[][] Sequences(string path)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(path));
        return [.. json.RootElement.GetProperty("sequences")
            .EnumerateArray().Select(s => s.EnumerateArray().Select(t => t.GetInt32()).ToArray())];
    }

    public EvaluationResult Run(EvaluationOptions? options = null) => new SaeEvaluation(Model, Targets, Tokens, options).Run();

    public void Dispose()
    {
        foreach (JumpReluSae sae in _saes)
            sae.Dispose();
        Model.Dispose();
        Device.Dispose();
    }

    private SaeTarget Open(string name)
    {
        JumpReluSae sae = JumpReluSae.Open(Device, Folder(name));
        _saes.Add(sae);
        string[] sites = name["sae-".Length..].Split("-to-");
        return new(name, sae, HookPoint.Parse(sites[0]), HookPoint.Parse(sites[^1]));
    }
}
