using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KernelScope.Tests;

/// <summary>A tensor as a safetensors file holds it.</summary>
internal sealed record StoredTensor(string Type, long[] Shape, byte[] Bytes);

/// <summary>Safetensors files in plain code, so that a test can write what other programs write.</summary>
internal static class StoredTensors
{
    public static Dictionary<string, StoredTensor> Read(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        int length = (int)BinaryPrimitives.ReadInt64LittleEndian(file);
        JsonObject header = JsonNode.Parse(file.AsSpan(8, length))!.AsObject();
        var tensors = new Dictionary<string, StoredTensor>();
        foreach ((string name, JsonNode? entry) in header.Where(e => e.Key != "__metadata__"))
        {
            long[] offsets = entry!["data_offsets"].Deserialize<long[]>()!;
            byte[] bytes = file[(int)(8 + length + offsets[0])..(int)(8 + length + offsets[1])];
            tensors.Add(name, new StoredTensor((string)entry["dtype"]!, entry["shape"].Deserialize<long[]>()!, bytes));
        }

        return tensors;
    }

    public static void Write(string path, IEnumerable<KeyValuePair<string, StoredTensor>> tensors)
    {
        var header = new JsonObject();
        long at = 0;
        foreach ((string name, StoredTensor tensor) in tensors)
        {
            header[name] = new JsonObject
            {
                ["dtype"] = tensor.Type,
                ["shape"] = JsonSerializer.SerializeToNode(tensor.Shape),
                ["data_offsets"] = new JsonArray(at, at + tensor.Bytes.Length),
            };
            at += tensor.Bytes.Length;
        }

        byte[] json = System.Text.Encoding.UTF8.GetBytes(header.ToJsonString());
        using FileStream file = File.Create(path);
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        file.Write(length);
        file.Write(json);
        foreach ((_, StoredTensor tensor) in tensors)
            file.Write(tensor.Bytes);
    }

    /// <summary>Values in a type, and as the type holds them.</summary>
    public static (StoredTensor Tensor, float[] Values) Of(string type, float[] values, params long[] shape)
    {
        byte[] bytes = new byte[values.Length * (type switch { "F32" => 4, "F64" => 8, _ => 2 })];
        float[] held = new float[values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            Span<byte> place = bytes.AsSpan(i * (bytes.Length / values.Length));
            switch (type)
            {
                case "F32":
                    BinaryPrimitives.WriteSingleLittleEndian(place, held[i] = values[i]);
                    break;
                case "F64":
                    BinaryPrimitives.WriteDoubleLittleEndian(place, held[i] = values[i]);
                    break;
                case "F16":
                    BinaryPrimitives.WriteHalfLittleEndian(place, (Half)values[i]);
                    held[i] = (float)(Half)values[i];
                    break;
                case "BF16":
                    // Cut, not rounded: any bfloat16 will do.
                    ushort upper = (ushort)(BitConverter.SingleToUInt32Bits(values[i]) >> 16);
                    BinaryPrimitives.WriteUInt16LittleEndian(place, upper);
                    held[i] = BitConverter.UInt32BitsToSingle((uint)upper << 16);
                    break;
                default:
                    throw new ArgumentException(type);
            }
        }

        return (new StoredTensor(type, shape, bytes), held);
    }

    /// <summary>A copy of a model's folder whose tensors and settings are changed; an index goes with its tensors.</summary>
    public static void CopyModel(string from, string to, Func<Dictionary<string, StoredTensor>, Dictionary<string, StoredTensor>> tensors,
        Action<JsonObject>? config = null)
    {
        Directory.CreateDirectory(to);
        var map = new JsonObject();
        foreach (string file in Directory.GetFiles(from))
        {
            string name = Path.GetFileName(file), target = Path.Combine(to, name);
            if (name.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                Dictionary<string, StoredTensor> changed = tensors(Read(file));
                Write(target, changed);
                foreach (string tensor in changed.Keys)
                    map[tensor] = name;
            }
            else if (name == "config.json" && config is not null)
            {
                JsonObject settings = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
                config(settings);
                File.WriteAllText(target, settings.ToJsonString());
            }
            else
            {
                File.Copy(file, target);
            }
        }

        string index = Path.Combine(to, "model.safetensors.index.json");
        if (File.Exists(index))
            File.WriteAllText(index, new JsonObject { ["metadata"] = new JsonObject(), ["weight_map"] = map }.ToJsonString());
    }
}
