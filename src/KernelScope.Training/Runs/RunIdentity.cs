using KernelScope.Devices;
using KernelScope.Evaluation;
using KernelScope.Files;
using KernelScope.Model;
using KernelScope.Sae;

namespace KernelScope.Training.Runs;

/// <summary>What a run remembers of its inputs, by content and not by place.</summary>
internal static class RunIdentity
{
    private const string PackedEnding = ", packed weights";

    /// <summary>Of a model. All weight files are read.</summary>
    public static ModelRecord Of(string name, Gemma2Checkpoint model, CancellationToken cancellationToken)
    {
        Gemma2Config config = model.Config;
        string settings = $"{config with { EosIds = [], TextEndIds = [], SlidingLayers = null }} " +
            $"{string.Join(',', config.SlidingLayers ?? [])}";
        return new ModelRecord(
            name,
            CanonicalJson.Hash(System.Text.Encoding.UTF8.GetBytes(settings)),
            [.. model.Files.Select(f => new FileIdentity(Path.GetFileName(f.Path.Replace(':', '/')), f.Length,
                PlacedFile.HashOf(f.Raw, cancellationToken)))]);
    }

    /// <summary>Of an SAE: how it is computed and its parameters, all of them.</summary>
    public static string Of(SaeCheckpoint sae)
    {
        List<TensorView> tensors = [sae.Encoder, sae.EncoderBias, sae.Decoder, sae.DecoderBias];
        if (sae.Threshold is { } threshold)
            tensors.Add(threshold);
        if (sae.Skip is { } skip)
            tensors.Add(skip);
        return Fingerprint.Of($"{sae.Config.Architecture} {sae.Config.Normalization} {sae.Config.ApplyDecoderBiasToInput} {sae.Config.K}",
            tensors, long.MaxValue);
    }

    /// <summary>
    /// Devices of one class give equal bits: the kind, its instructions, and whether weights are packed, which changes the order of
    /// sums.
    /// </summary>
    public static string DeviceClass(Device device, bool packed) =>
        $"{device.Name.Split(':')[0]}{(device.Arithmetic.Length > 0 ? $" {device.Arithmetic}" : "")}{(packed ? PackedEnding : "")}";

    /// <summary>Whether a class is of packed weights.</summary>
    public static bool IsPacked(string deviceClass) => deviceClass.EndsWith(PackedEnding, StringComparison.Ordinal);

    /// <summary>The kind of device of a class: <c>cpu</c>, <c>cuda</c>, <c>reference</c>.</summary>
    public static string DeviceOf(string deviceClass) => deviceClass.Split(' ', ',')[0];

    /// <summary>An id for an SAE: what its name or path ends with, fit for a folder.</summary>
    public static string IdOf(string name, IReadOnlyCollection<string> taken)
    {
        string[] parts = [.. name.Split('/', '\\').Where(p => p.Length > 0
            && p is not ("." or ".." or SaeCheckpoint.ParamsName or SaeCheckpoint.WeightsName or SaeCheckpoint.ConfigName))];
        string id = string.Join('.', parts.TakeLast(3));
        id = string.Concat(id.Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-' or '+' ? c : '_')).Trim('.');
        id = id.Length == 0 ? "sae" : id[..Math.Min(id.Length, RunFolder.LongestId - 4)].Trim('.');
        string unique = id;
        for (int n = 2; taken.Contains(unique); n++)
            unique = $"{id}-{n}";
        return unique;
    }
}
