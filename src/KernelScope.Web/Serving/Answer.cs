using System.Buffers;
using System.Text.Json;
using KernelScope.Evaluation;

namespace KernelScope.Web.Serving;

/// <summary>
/// An answer, or a part of one, that writes itself as a JSON value. By hand, because the native file would carry a serializer's types for
/// each type of answer and each list of them.
/// </summary>
internal interface IAnswer
{
    void Write(Utf8JsonWriter json);
}

/// <summary>A list of answers as one.</summary>
internal sealed class AnswerList(IReadOnlyList<IAnswer> answers) : IAnswer
{
    public void Write(Utf8JsonWriter json) => json.List(answers, (j, answer) => answer.Write(j));
}

/// <summary>A JSON object while its fields are written: <c>json.Fields().Add("index", 3).End()</c>.</summary>
/// <remarks>A field that is null is written as null, or not at all where it is optional.</remarks>
internal readonly struct AnswerFields(Utf8JsonWriter json)
{
    public AnswerFields Add(string name, string? value, bool optional = false)
    {
        if (value is not null || !optional)
            json.WriteString(name, value);
        return this;
    }

    public AnswerFields Add(string name, bool value)
    {
        json.WriteBoolean(name, value);
        return this;
    }

    public AnswerFields Add(string name, long? value)
    {
        if (value is long number)
            json.WriteNumber(name, number);
        else
            json.WriteNull(name);
        return this;
    }

    public AnswerFields Add(string name, float? value)
    {
        if (value is float number)
            json.WriteNumber(name, number);
        else
            json.WriteNull(name);
        return this;
    }

    public AnswerFields Add(string name, double? value)
    {
        if (value is double number)
            json.WriteNumber(name, number);
        else
            json.WriteNull(name);
        return this;
    }

    public AnswerFields Add(string name, IAnswer? value, bool optional = false)
    {
        if (value is not null || !optional)
            json.WritePropertyName(name);
        if (value is not null)
            value.Write(json);
        else if (!optional)
            json.WriteNullValue();
        return this;
    }

    public AnswerFields Add(string name, IReadOnlyList<IAnswer>? values, bool optional = false) =>
        Add(name, values is null ? null : new AnswerList(values), optional);

    public AnswerFields Add(string name, IReadOnlyList<string>? values, bool optional = false) =>
        Add(name, values, optional, (j, value) => j.WriteStringValue(value));

    public AnswerFields Add(string name, IReadOnlyList<bool> values) => Add(name, values, false, (j, value) => j.WriteBooleanValue(value));

    public AnswerFields Add(string name, IReadOnlyList<int> values) => Add(name, values, false, (j, value) => j.WriteNumberValue(value));

    public AnswerFields Add(string name, IReadOnlyList<float>? values) => Add(name, values, false, (j, value) => j.WriteNumberValue(value));

    public AnswerFields Add(string name, IReadOnlyList<double>? values, bool optional = false) =>
        Add(name, values, optional, (j, value) => j.WriteNumberValue(value));

    public AnswerFields Add(string name, IReadOnlyList<float[]> rows) =>
        Add(name, rows, false, (j, row) => j.List(row, (k, value) => k.WriteNumberValue(value)));

    public AnswerFields Add(string name, IReadOnlyList<double[]> rows) =>
        Add(name, rows, false, (j, row) => j.List(row, (k, value) => k.WriteNumberValue(value)));

    public AnswerFields AddNull(string name)
    {
        json.WriteNull(name);
        return this;
    }

    /// <summary>What each token gave an activation.</summary>
    public AnswerFields AddDfa(DirectAttribution? dfa) =>
        Add("dfaValues", dfa?.Values).Add("dfaTargetIndex", dfa?.Target).Add("dfaMaxValue", dfa?.Max);

    public void End() => json.WriteEndObject();

    private AnswerFields Add<T>(string name, IReadOnlyList<T>? values, bool optional, Action<Utf8JsonWriter, T> write)
    {
        if (values is not null)
        {
            json.WritePropertyName(name);
            json.List(values, write);
        }
        else if (!optional)
        {
            json.WriteNull(name);
        }

        return this;
    }
}

internal static class AnswerJson
{
    public static ReadOnlyMemory<byte> Bytes(IAnswer answer)
    {
        var bytes = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(bytes))
            answer.Write(json);
        return bytes.WrittenMemory;
    }

    /// <summary>Begins an object.</summary>
    public static AnswerFields Fields(this Utf8JsonWriter json)
    {
        json.WriteStartObject();
        return new AnswerFields(json);
    }

    public static void List<T>(this Utf8JsonWriter json, IReadOnlyList<T> values, Action<Utf8JsonWriter, T> write)
    {
        json.WriteStartArray();
        foreach (T value in values)
            write(json, value);
        json.WriteEndArray();
    }
}
