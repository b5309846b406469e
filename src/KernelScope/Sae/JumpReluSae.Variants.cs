using KernelScope.Devices;

namespace KernelScope.Sae;

/// <content>What other SAEs than Gemma Scope's want: inputs that are normalised or shifted, and clamps where only the k largest are active.</content>
public sealed partial class JumpReluSae
{
    private bool NormalizesOutput => Config.Normalization != SaeNormalization.None && !Config.IsTranscoder;

    private static bool Clamps(ReadOnlySpan<FeatureEdit> edits)
    {
        foreach (FeatureEdit edit in edits)
        {
            if (edit.Kind == FeatureEditKind.Clamp)
                return true;
        }

        return false;
    }

    /// <summary>Clamps become steers by what the codes lack, row by row.</summary>
    private void EditByCodes(Mat x, ReadOnlySpan<FeatureEdit> edits, Mat y)
    {
        using SparseCodes codes = CreateCodes();
        var list = new CodeList();
        Encode(x, codes);
        Device.Read(codes, list);
        FeatureEdit[] steers = new FeatureEdit[edits.Length];
        for (int r = 0; r < list.Rows; r++)
        {
            for (int e = 0; e < edits.Length; e++)
            {
                FeatureEdit edit = edits[e];
                float value = edit.Kind == FeatureEditKind.Clamp ? (float)((double)edit.Value - list.ValueOf(r, edit.Feature)) : edit.Value;
                steers[e] = new FeatureEdit(edit.Feature, FeatureEditKind.Add, value);
            }

            Mat row = y.RowRange(r, 1);
            // What is read does not count any more: all are steers.
            Device.SaeEdit(x.RowRange(r, 1), Parameters, steers, row);
        }
    }

    /// <summary>What the encoder's product reads: x itself, or a copy that is normalised and has b_dec taken off.</summary>
    private Mat Prepared(Mat x, SaeRoom room)
    {
        if (Config.Normalization == SaeNormalization.None && !Config.ApplyDecoderBiasToInput)
            return x;
        Mat input = room.Input(x.Rows);
        Device.Copy(x, input);
        if (Config.Normalization != SaeNormalization.None)
            Rescale(x, input, room, undo: false);
        if (Config.ApplyDecoderBiasToInput)
            Device.AddScaled(Parameters.DecoderBias, -1f, input);
        return input;
    }

    /// <summary>Normalises every row of <paramref name="target"/>, or undoes it, by the matching row of <paramref name="x"/>. Few SAEs want it, so it runs on the host.</summary>
    private void Rescale(Mat x, Mat target, SaeRoom room, bool undo)
    {
        Span<float> host = room.Host(x.Columns + target.Columns), input = host[..x.Columns], row = host[x.Columns..];
        for (int r = 0; r < x.Rows; r++)
        {
            Device.Read(x.RowRange(r, 1), input);
            Device.Read(target.RowRange(r, 1), row);
            var norm = RowNorm.Of(input, Config.Normalization);
            if (undo)
                norm.Undo(row);
            else
                norm.Apply(row);
            Device.Write(row, target.RowRange(r, 1));
        }
    }
}
