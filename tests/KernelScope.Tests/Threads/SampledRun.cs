using KernelScope.Devices;
using KernelScope.Generation;
using KernelScope.Hooks;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Tests.Threads;

/// <summary>One generation with everything on: a capture, a splice or edits by the same SAE, sampling.</summary>
/// <param name="Number">Which; prompt, seed and edits follow from it.</param>
internal sealed record SampledRun(int Number)
{
    /// <summary>New tokens.</summary>
    public const int Length = 16;

    private const int PromptLength = 6;
    private static readonly HookPoint Read = new(Site.ResidPost, 1);

    /// <summary>Every token, and every active feature of every row with its value, bit by bit.</summary>
    public (int[] Tokens, (int Feature, float Value)[] Features) Run(Gemma2Model model, JumpReluSae sae, int length = Length)
    {
        using Session session = model.NewSession(contextLength: 64);
        return Run(model, sae, session, length);
    }

    public (int[] Tokens, (int Feature, float Value)[] Features) Run(
        Gemma2Model model, JumpReluSae sae, Session session, int length = Length)
    {
        var random = new Random(Number);
        List<(int, float)> features = [];
        CodeList list = new();
        using SparseCodes codes = sae.CreateCodes();
        using DeviceBuffer room = model.Device.Allocate((long)PromptLength * sae.Parameters.OutputDim, "reconstruction");
        using IDisposable capture = session.Hooks.Add(Read, (call, _, x) =>
        {
            sae.Encode(x, codes);
            call.Device.Read(codes, list);
            for (int r = 0; r < list.Rows; r++)
                features.AddRange(list.FeaturesOf(r).ToArray().Zip(list.ValuesOf(r).ToArray()));
            // A transcoder's output has another width than the site; its numbers count all the same.
            Mat y = new(room, x.Rows, sae.Parameters.OutputDim);
            sae.Decode(codes, x, y);
            float[] values = new float[y.Rows * y.Columns];
            call.Device.Read(y, values);
            features.AddRange(values.Select((value, j) => (j, value)));
        });
        using SaeSplice? splice = sae.Parameters.OutputDim == model.Config.ModelDim ? Splice(session, sae, random) : null;
        using var sampler =
            new Sampler(model.Device, model.Config.VocabSize,
                new SamplingOptions { Temperature = 0.9, TopK = 20, TopP = 0.95, Seed = (ulong)Number });
        int[] prompt = [2, .. Enumerable.Range(1, PromptLength - 1).Select(_ => random.Next(3, model.Config.VocabSize))];
        int[] tokens = new int[length];
        Mat logits = session.Prefill(prompt);
        for (int n = 0; n < length; n++)
        {
            tokens[n] = sampler.Next(logits);
            logits = model.Forward([tokens[n]], session);
        }

        return (tokens, [.. features]);
    }

    private static SaeSplice Splice(Session session, JumpReluSae sae, Random random)
    {
        bool normalises = sae.Config.Normalization != SaeNormalization.None;
        FeatureEdit[] edits = normalises
            ? []
            : [new(random.Next(sae.FeatureCount), FeatureEditKind.Add, 2f), new(random.Next(sae.FeatureCount), FeatureEditKind.Clamp, 1f)];
        return new SaeSplice(session.Hooks, sae, Read, Read, normalises ? SpliceMode.SaePlusError
            : SpliceMode.None, Positions.AllBut(2), edits);
    }
}
