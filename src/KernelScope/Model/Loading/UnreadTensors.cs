using System.Globalization;
using KernelScope.Files;

namespace KernelScope.Model;

/// <summary>Tensors of weight files that the model has no place for: what would change its numbers is refused by name, what would not is told.</summary>
internal static class UnreadTensors
{
    private const string Bias = "bias", Head = "lm_head", Layers = "model.layers.";
    private const int MostNamed = 3;

    /// <summary>What belongs to the model and changes nothing: a table that is computed here, and what a training library keeps.</summary>
    private static readonly string[] Harmless = ["inv_freq", "_extra_state"];

    /// <summary>What ends of names, or parts of them, tell about tensors that belong to the model.</summary>
    private static readonly (string Part, string Meaning)[] Meanings =
    [
        (Bias, "biases are not computed"),
        ("q_norm", "Gemma 2 has no norm on queries and keys: this is another model"),
        ("k_norm", "Gemma 2 has no norm on queries and keys: this is another model"),
        ("qweight", "quantized weights are not supported"),
        ("qzeros", "quantized weights are not supported"),
        ("scales", "quantized weights are not supported"),
        ("g_idx", "quantized weights are not supported"),
        ("weight_scale", "quantized weights are not supported"),
        ("absmax", "quantized weights are not supported"),
        ("original_module", "it belongs to an adapter that was not merged into the model"),
        ("modules_to_save", "it belongs to an adapter that was not merged into the model"),
    ];

    private static readonly HashSet<string> Read = [TensorNames.Embedding, TensorNames.OutputHead, TensorNames.FinalNorm];

    private static readonly HashSet<string> ReadOfLayer = [.. TensorNames.OfLayer(0).Select(n => n[$"{Layers}0.".Length..])];

    /// <summary>Looks at every name, and at the values of biases, which may be zero.</summary>
    /// <param name="tensors">The files' tensors.</param>
    /// <param name="config">How many layers there are.</param>
    /// <returns>A sentence that names the others; null: there are none.</returns>
    /// <exception cref="InvalidDataException">A tensor would change what the model computes.</exception>
    public static string? Check(GemmaTensors tensors, Gemma2Config config)
    {
        List<string> told = [];
        foreach ((string name, string stored) in tensors.Names)
        {
            if (IsRead(name, config.LayerCount))
                continue;
            if (BelongsToModel(name, config.LayerCount) && !IsWithoutEffect(tensors, name))
            {
                string what = $"the tensor {BadFile.Quote(stored)} would change what the model computes, and is not read";
                throw BadFile.At(tensors.Path, $"{what}: {Meaning(name)}.");
            }

            told.Add(stored);
        }

        foreach ((string name, string stored) in tensors.Unlisted)
        {
            if (IsRead(name, config.LayerCount) || BelongsToModel(name, config.LayerCount))
                throw BadFile.At(tensors.Path, $"the tensor {BadFile.Quote(stored)} lies in a shard, and the index does not name it.");
            told.Add(stored);
        }

        string names = string.Join(", ", told.Order(StringComparer.Ordinal).Take(MostNamed).Select(n => BadFile.Quote(n)));
        return told.Count switch
        {
            0 => null,
            1 => $"the tensor {names} is not read.",
            <= MostNamed => $"{told.Count} tensors are not read: {names}.",
            _ => $"{told.Count} tensors are not read: {names}, and others.",
        };
    }

    private static bool IsRead(string name, int layers) =>
        Read.Contains(name) || (InLayer(name, layers) is string rest && ReadOfLayer.Contains(rest));

    /// <summary>Whether it hangs on a module that the model has; a head under a name that is none of the known ones counts too.</summary>
    private static bool BelongsToModel(string name, int layers) =>
        InLayer(name, layers) is not null
        || name.StartsWith("model.embed_tokens.", StringComparison.Ordinal)
        || name.StartsWith("model.norm.", StringComparison.Ordinal)
        || name.Split('.').Contains(Head);

    private static bool IsWithoutEffect(GemmaTensors tensors, string name)
    {
        string last = name[(name.LastIndexOf('.') + 1)..];
        if (Harmless.Contains(last))
            return true;
        return last == Bias && tensors.TryGet(name, out TensorView bias) && bias.DType is DType.F32 or DType.BF16 or DType.F16 or DType.F64
            && !bias.ToFloats().AsSpan().ContainsAnyExcept(0f);
    }

    private static string Meaning(string name)
    {
        string[] parts = name.Split('.');
        foreach ((string part, string meaning) in Meanings)
        {
            if (parts.Contains(part))
                return meaning;
        }

        return parts.Contains(Head) ? $"the output head is read from {TensorNames.OutputHead}" : "Gemma 2 has no such part";
    }

    /// <summary>What follows the layer's number; null if it is in none of the model's layers.</summary>
    private static string? InLayer(string name, int layers)
    {
        if (!name.StartsWith(Layers, StringComparison.Ordinal))
            return null;
        ReadOnlySpan<char> rest = name.AsSpan(Layers.Length);
        int dot = rest.IndexOf('.');
        bool isLayer = dot > 0 && int.TryParse(rest[..dot], NumberStyles.None, CultureInfo.InvariantCulture, out int layer)
            && layer < layers && (dot == 1 || rest[0] != '0');
        return isLayer ? rest[(dot + 1)..].ToString() : null;
    }
}
